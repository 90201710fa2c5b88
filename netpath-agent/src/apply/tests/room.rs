//! More services than the maps have room for: each is served whole or not, and named where it is not.

use super::*;

#[test]
fn a_full_map_leaves_no_half_service() {
    let scratch = maps(64, 4);
    let pins = &scratch.0;
    let mut applier = Applier::adopt(pins).expect("maps");
    applier.apply(&plan([(frontend(1, 80), service(0, &[1, 2]))]));
    let report = applier.apply(&plan([
        (frontend(1, 80), service(0, &[1, 2])),
        (frontend(2, 80), service(0, &[3, 4, 5])),
        (frontend(3, 80), service(0, &[6])),
    ]));
    assert_eq!(
        report.errors,
        [Failure {
            object: "service 10.96.0.2:80/tcp and its 3 backends".to_owned(),
            reason: "map np_backend4 is full with 4 entries: raise --max-backends and restart netpath-agent".to_owned(),
        }]
    );
    assert_eq!(serves(pins, frontend(1, 80)), Some((0, vec![backend(1), backend(2)])));
    assert_eq!(serves(pins, frontend(2, 80)), None);
    assert_eq!(serves(pins, frontend(3, 80)), Some((0, vec![backend(6)])));
    assert_eq!(held(tables::backends::<V4>(pins)).len(), 3);

    // A frontend whose new set does not fit keeps its old one, whole.
    let report = applier.apply(&plan([
        (frontend(1, 80), service(0, &[1, 2, 3, 4, 5])),
        (frontend(3, 80), service(0, &[6])),
    ]));
    assert_eq!(report.errors.len(), 1, "{report}");
    assert_eq!(serves(pins, frontend(1, 80)), Some((0, vec![backend(1), backend(2)])));
    // What does not fit before another service's set goes fits after, in the same apply.
    let report = applier.apply(&plan([(frontend(1, 80), service(0, &[3, 4]))]));
    assert_eq!(report.errors, []);
    assert_eq!(serves(pins, frontend(1, 80)), Some((0, vec![backend(3), backend(4)])));
    assert_eq!(held(tables::backends::<V4>(pins)).len(), 2);
}

#[test]
fn frontends_beyond_the_room_are_named_and_the_others_served() {
    let scratch = maps(2, 64);
    let pins = &scratch.0;
    let mut applier = Applier::adopt(pins).expect("maps");
    let three = [1, 2, 3].map(|last| (frontend(last, 80), service(0, &[last])));
    let report = applier.apply(&plan(three.clone()));
    let objects: Vec<&str> = report.errors.iter().map(|failure| failure.object.as_str()).collect();
    assert_eq!(objects, ["service 10.96.0.3:80/tcp"]);
    assert!(report.errors[0].reason.contains("--max-services"), "{report}");
    assert_eq!(serves(pins, frontend(2, 80)), Some((0, vec![backend(2)])));

    // One goes, and the third takes its room in the same apply.
    let report = applier.apply(&plan(three.into_iter().skip(1)));
    assert_eq!(report.errors, []);
    assert_eq!(serves(pins, frontend(1, 80)), None);
    assert_eq!(serves(pins, frontend(3, 80)), Some((0, vec![backend(3)])));
}
