//! Files that come, go and break.

use std::{collections::BTreeSet, fs, os::unix::fs::symlink};

use tempfile::TempDir;

use super::*;
use crate::model::{ObjectName, Severity};

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn service(name: &str, address: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{clusterIP: {address}, ports: [{{port: 80}}]}}}}\n"
    )
}

/// The folder as it is, read in one go.
fn read(folder: &TempDir) -> Cluster {
    merge::merge(&Files::open(folder.path()).unwrap())
}

/// The folder, kept over changes.
struct Kept {
    folder: TempDir,
    files: Files,
}

impl Kept {
    fn with(files: &[(&str, &str)]) -> Self {
        let folder = folder();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let files = Files::open(folder.path()).unwrap();
        Self { folder, files }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&mut self, name: &str, text: impl AsRef<[u8]>) -> Cluster {
        fs::write(self.path(name), text).unwrap();
        self.again()
    }

    fn again(&mut self) -> Cluster {
        self.files.read_again();
        merge::merge(&self.files)
    }
}

fn names(cluster: &Cluster) -> Vec<&str> {
    cluster.services.keys().map(|name| name.name()).collect()
}

/// What is wrong, less the folder's own path.
fn said(cluster: &Cluster, folder: &Path) -> Vec<String> {
    let prefix = format!("{}/", folder.display());
    cluster
        .problems
        .iter()
        .map(|problem| problem.to_string().replace(&prefix, ""))
        .collect()
}

#[test]
fn documents_lists_and_subfolders_are_read_and_other_kinds_left_out() {
    let folder = folder();
    fs::create_dir_all(folder.path().join("more/deep")).unwrap();
    fs::create_dir(folder.path().join(".hidden")).unwrap();
    let write = |name: &str, text: String| fs::write(folder.path().join(name), text).unwrap();
    write(
        "a.yaml",
        format!(
            "# a comment\n---\n{}---\n---\n{}",
            service("one", "10.96.0.1"),
            service("two", "10.96.0.2")
        ),
    );
    write(
        "more/list.yml",
        format!(
            "apiVersion: v1\nkind: List\nitems:\n- {}- {}",
            service("three", "10.96.0.3"),
            "{apiVersion: apps/v1, kind: Deployment}\n"
        ),
    );
    write(
        "more/deep/typed.yaml",
        "{apiVersion: v1, kind: ServiceList, items: [
          {metadata: {name: four, namespace: web}, spec: {clusterIP: 10.96.0.4}}]}"
            .into(),
    );
    write(
        "pod.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\n---\napiVersion: serving.knative.dev/v1\nkind: Service\n"
            .into(),
    );
    write(
        "merged.yaml",
        "base: &b {clusterIP: 10.96.0.5}
apiVersion: v1
kind: Service
metadata: {name: five}
spec: {<<: *b}
"
        .into(),
    );
    write(".hidden/no.yaml", service("hidden", "10.96.0.9"));
    write("notes.txt", "not: [yaml".into());
    let cluster = read(&folder);
    assert_eq!(cluster.problems, []);
    assert_eq!(names(&cluster), ["five", "one", "three", "two", "four"]);
    assert!(cluster.services.contains_key(&ObjectName::new("web", "four")));
    assert!(
        cluster.services.contains_key(&ObjectName::new("default", "one")),
        "the namespace that kubectl would take"
    );
}

#[test]
fn a_file_that_breaks_keeps_what_it_said_and_says_why() {
    let good = service("one", "10.96.0.1");
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned()
        + &('b'..='l')
            .map(|c| {
                format!(
                    "{c}: &{c} [*{0},*{0},*{0},*{0},*{0},*{0},*{0},*{0},*{0}]\n",
                    (c as u8 - 1) as char
                )
            })
            .collect::<String>();
    let deep = "[".repeat(1000);
    let endless = format!("{good}---\nx: {}", "[{".repeat(100_000));
    for (text, why) in [
        (
            format!("{good}---\nspec: [1, 2\n").into_bytes(),
            "document 2: did not find expected ',' or ']'",
        ),
        (
            format!("{good}---\nkind: Service\n").into_bytes(),
            "document 2: it is not a Kubernetes object: apiVersion or kind is missing",
        ),
        (b"hello".to_vec(), "document 1: it is not a Kubernetes object"),
        (
            b"{apiVersion: v1, kind: Service, metadata: {namespace: x}}".to_vec(),
            "document 1: a Service has no metadata.name",
        ),
        (
            b"{apiVersion: v1, kind: Service, metadata: {name: 7}}".to_vec(),
            "document 1: a Service has no metadata.name",
        ),
        (
            b"{apiVersion: v1, kind: Service, metadata: {name: x, namespace: a/b}}".to_vec(),
            "document 1: a Service is in namespace \"a/b\", which is no name",
        ),
        (b"a: 1\na: 2\n".to_vec(), "document 1: duplicate entry with key \"a\""),
        (
            vec![0x7f, b'E', b'L', b'F', 0xff, 0xfe, 0],
            "it is not text: byte 4 is not UTF-8",
        ),
        (vec![0; 64], "document 1: control characters are not allowed"),
        (bomb.into_bytes(), "document 1: repetition limit exceeded"),
        (deep.into_bytes(), "document 1: recursion limit exceeded"),
        (
            endless.into_bytes(),
            "document 2: more than 2000 brackets are open at once",
        ),
        (b"&a [*a]".to_vec(), "document 1: "),
        (Vec::new(), "it holds no object any more"),
        (b"# all gone\n".to_vec(), "it holds no object any more"),
    ] {
        let mut kept = Kept::with(&[("a.yaml", &good), ("b.yaml", &service("two", "10.96.0.2"))]);
        let cluster = kept.write("a.yaml", &text);
        let shown = String::from_utf8_lossy(&text[..text.len().min(60)]).into_owned();
        assert_eq!(names(&cluster), ["one", "two"], "{shown}");
        let said = said(&cluster, kept.folder.path());
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].starts_with(&format!("File a.yaml: {why}")), "{shown}: {said:?}");
        let mended = kept.write("a.yaml", service("three", "10.96.0.3"));
        assert_eq!(
            (names(&mended), mended.problems.len()),
            (vec!["three", "two"], 0),
            "{shown}"
        );
    }
}

#[test]
fn a_file_that_was_never_readable_is_named_as_unread_until_it_is() {
    let mut kept = Kept::with(&[("a.yaml", &service("a", "10.96.0.1")), ("b.yaml", "kind: [")]);
    let first = merge::merge(&kept.files);
    assert_eq!(names(&first), ["a"]);
    assert_eq!(first.unread, first.problems);
    let said = said(&first, kept.folder.path());
    assert!(
        said.len() == 1 && said[0].starts_with("File b.yaml: document 1: "),
        "{said:?}"
    );
    assert!(said[0].ends_with("; mend the file, or remove it"), "{said:?}");
    let mended = kept.write("b.yaml", service("b", "10.96.0.2"));
    assert_eq!(
        (names(&mended), mended.unread.as_slice()),
        (vec!["a", "b"], [].as_slice())
    );
    // What it says is known from now on.
    let broken = kept.write("b.yaml", "kind: [");
    assert_eq!(
        (names(&broken), broken.unread.as_slice()),
        (vec!["a", "b"], [].as_slice())
    );
    assert_eq!(broken.problems.len(), 1);
}

#[test]
fn a_file_that_cannot_be_opened_keeps_what_it_said() {
    let good = service("one", "10.96.0.1");
    type BreakOff = fn(&Path);
    let break_off: [(&str, BreakOff); 4] = [
        ("No such file or directory", |path| symlink("nowhere", path).unwrap()),
        ("Too many levels of symbolic links", |path| symlink(path, path).unwrap()),
        ("it is not a regular file", |path| {
            nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRUSR).unwrap();
        }),
        ("it has 33554433 bytes, more than 33554432", |path| {
            fs::File::create(path).unwrap().set_len((32 << 20) + 1).unwrap();
        }),
    ];
    for (why, break_off) in break_off {
        let mut kept = Kept::with(&[("a.yaml", &good)]);
        fs::remove_file(kept.path("a.yaml")).unwrap();
        break_off(&kept.path("a.yaml"));
        let cluster = kept.again();
        assert_eq!(names(&cluster), ["one"], "{why}");
        let said = said(&cluster, kept.folder.path());
        assert!(
            said.len() == 1 && said[0].starts_with(&format!("File a.yaml: {why}")),
            "{said:?}"
        );
    }
}

#[test]
fn folders_that_lead_in_circles_are_read_once() {
    let folder = folder();
    fs::create_dir(folder.path().join("sub")).unwrap();
    fs::write(folder.path().join("sub/a.yaml"), service("one", "10.96.0.1")).unwrap();
    symlink(folder.path(), folder.path().join("sub/up")).unwrap();
    symlink("self", folder.path().join("self")).unwrap();
    let cluster = read(&folder);
    assert_eq!((names(&cluster), &cluster.problems), (vec!["one"], &vec![]));
}

#[test]
fn an_object_that_breaks_keeps_its_earlier_self_and_the_others_of_its_file_go_on() {
    let mut kept = Kept::with(&[(
        "a.yaml",
        &format!("{}---\n{}", service("one", "10.96.0.1"), service("two", "10.96.0.2")),
    )]);
    for broken in [
        service("one", "banana"),
        "{apiVersion: v1, kind: Service, metadata: {name: one}, spec: {ports: 80}}\n".into(),
    ] {
        let cluster = kept.write("a.yaml", format!("{broken}---\n{}", service("two", "10.96.0.3")));
        assert_eq!(names(&cluster), ["one", "two"]);
        assert_eq!(
            cluster.services[&ObjectName::new("default", "two")].cluster_ips[0].to_string(),
            "10.96.0.3"
        );
        let [problem] = &cluster.problems[..] else {
            panic!("{:?}", cluster.problems)
        };
        assert_eq!(
            (problem.kind, problem.name.as_str(), problem.severity),
            ("Service", "one", Severity::Refused)
        );
    }
    let cluster = kept.write("a.yaml", service("two", "10.96.0.3"));
    assert_eq!(
        (names(&cluster), &cluster.problems),
        (vec!["two"], &vec![]),
        "removed, it is gone"
    );
}

#[test]
fn of_two_that_say_the_same_the_first_path_wins_and_both_are_named() {
    let one = service("one", "10.96.0.1");
    let mut kept = Kept::with(&[
        ("a.yaml", &service("x", "10.96.0.9")),
        ("b.yaml", &format!("---\n{one}")),
        ("c.yaml", &service("one", "10.96.0.2")),
    ]);
    let cluster = kept.again();
    assert_eq!(
        cluster.services[&ObjectName::new("default", "one")].cluster_ips[0].to_string(),
        "10.96.0.1"
    );
    assert_eq!(
        said(&cluster, kept.folder.path()),
        [
            "Service default/one: it is there twice: b.yaml document 1 is served, c.yaml document 1 is not; remove one of the two"
        ]
    );
    fs::remove_file(kept.path("b.yaml")).unwrap();
    let cluster = kept.again();
    assert_eq!(
        cluster.services[&ObjectName::new("default", "one")].cluster_ips[0].to_string(),
        "10.96.0.2"
    );
    assert_eq!(cluster.problems, []);
}

#[test]
fn a_folder_that_vanishes_or_is_emptied_keeps_everything() {
    let mut kept = Kept::with(&[
        ("a.yaml", &service("one", "10.96.0.1")),
        ("b.yaml", &service("two", "10.96.0.2")),
    ]);
    fs::remove_file(kept.path("a.yaml")).unwrap();
    assert_eq!(names(&kept.again()), ["two"], "a file that is removed is believed");
    fs::remove_file(kept.path("b.yaml")).unwrap();
    let emptied = kept.again();
    assert_eq!((names(&emptied), emptied.problems.len()), (vec!["two"], 1));
    fs::remove_dir(kept.folder.path()).unwrap();
    let vanished = kept.again();
    assert_eq!((names(&vanished), vanished.problems.len()), (vec!["two"], 1));
    assert!(
        vanished.problems[0].what.contains("No such file"),
        "{:?}",
        vanished.problems
    );
    fs::create_dir(kept.folder.path()).unwrap();
    let back = kept.write("c.yaml", service("three", "10.96.0.3"));
    assert_eq!((names(&back), &back.problems), (vec!["three"], &vec![]));
}

#[test]
fn nothing_new_is_nothing_to_publish() {
    let mut kept = Kept::with(&[("a.yaml", &service("one", "10.96.0.1"))]);
    assert!(!kept.files.read_again(), "nothing at all");
    fs::write(kept.path("a.yaml"), service("one", "10.96.0.1")).unwrap();
    assert!(!kept.files.read_again(), "the same again");
    fs::write(kept.path("a.yaml"), service("one", "10.96.0.2")).unwrap();
    assert!(kept.files.read_again());
}

#[test]
fn a_missing_folder_is_an_error_that_names_it() {
    let error = watch(Path::new("/nonexistent/objects")).unwrap_err().to_string();
    assert_eq!(
        error,
        "cannot read the folder of objects /nonexistent/objects: No such file or directory (os error 2); create it, or correct --folder"
    );
}

async fn until(receiver: &mut watch::Receiver<Arc<Cluster>>, wanted: &[&str]) {
    let found = receiver
        .wait_for(|cluster| names(cluster).into_iter().collect::<BTreeSet<_>>() == wanted.iter().copied().collect());
    tokio::time::timeout(Duration::from_secs(20), found)
        .await
        .unwrap_or_else(|_| panic!("never came: {wanted:?}"))
        .unwrap();
}

#[tokio::test]
async fn changes_are_published_wherever_they_are_made() {
    let folder = folder();
    let root = folder.path().join("objects");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("a.yaml"), service("one", "10.96.0.1")).unwrap();
    let mut receiver = watch(&root).unwrap();
    assert_eq!(names(&receiver.borrow()), ["one"], "whole from the start");

    let began = Instant::now();
    fs::write(root.join("draft"), service("two", "10.96.0.2")).unwrap();
    fs::rename(root.join("draft"), root.join("b.yaml")).unwrap();
    until(&mut receiver, &["one", "two"]).await;
    assert!(
        began.elapsed() < LOOK,
        "it was told, it did not look: {:?}",
        began.elapsed()
    );

    fs::create_dir(root.join("sub")).unwrap();
    fs::write(root.join("sub/c.yaml"), service("three", "10.96.0.3")).unwrap();
    until(&mut receiver, &["one", "two", "three"]).await;
    fs::remove_file(root.join("a.yaml")).unwrap();
    until(&mut receiver, &["two", "three"]).await;

    // The folder itself is exchanged for another.
    fs::rename(&root, folder.path().join("old")).unwrap();
    fs::create_dir(&root).unwrap();
    fs::write(root.join("d.yaml"), service("four", "10.96.0.4")).unwrap();
    until(&mut receiver, &["four"]).await;
    let began = Instant::now();
    fs::write(root.join("d.yaml"), service("five", "10.96.0.5")).unwrap();
    until(&mut receiver, &["five"]).await;
    assert!(
        began.elapsed() < LOOK * 3 / 4,
        "the new folder is watched too: {:?}",
        began.elapsed()
    );
}
