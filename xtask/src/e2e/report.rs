//! What came of Kubernetes' tests, out of the report that their runner writes (Ginkgo's `--json-report`, its type `types.Report`).

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// How the tests that were chosen went.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    passed: usize,
    /// Chosen, but a test itself found that it cannot run here; name and reason.
    skipped: Vec<(String, String)>,
    /// Name and the first line of what was wrong.
    failed: Vec<(String, String)>,
}

impl Verdict {
    /// Whether tests ran, and none failed.
    pub fn good(&self) -> bool {
        self.passed > 0 && self.failed.is_empty()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (passed, failed, skipped) = (self.passed, self.failed.len(), self.skipped.len());
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")?;
        for (what, tests) in [("failed", &self.failed), ("skipped", &self.skipped)] {
            for (name, reason) in tests {
                write!(f, "\n  {what}: {name}: {reason}")?;
            }
        }
        Ok(())
    }
}

/// Reads a report.
///
/// # Errors
/// There is none, or it is not what Ginkgo 2 writes.
pub fn read(path: &Path) -> Result<Verdict> {
    let failed = || format!("the report of Kubernetes' tests, {}", path.display());
    let text = std::fs::read(path).with_context(failed)?;
    let report: Value = serde_json::from_slice(&text).with_context(failed)?;
    judge(&report).context("it has no SpecReports").with_context(failed)
}

fn judge(report: &Value) -> Option<Verdict> {
    let mut verdict = Verdict {
        passed: 0,
        skipped: Vec::new(),
        failed: Vec::new(),
    };
    for suite in report.as_array()? {
        for spec in suite["SpecReports"].as_array()? {
            let is_test = spec["LeafNodeType"] == "It";
            let message = spec["Failure"]["Message"].as_str().unwrap_or_default();
            let reason = message.lines().next().unwrap_or_default().to_owned();
            match spec["State"].as_str()? {
                "passed" if is_test => verdict.passed += 1,
                // What was not chosen is skipped too, without a reason.
                "passed" | "pending" => {}
                "skipped" if reason.is_empty() => {}
                "skipped" => verdict.skipped.push((name(spec), reason)),
                _ => verdict.failed.push((name(spec), reason)),
            }
        }
    }
    Some(verdict)
}

/// The words that lead to a test, as Ginkgo joins them; of what is no test, such as what is done before all, its kind.
fn name(spec: &Value) -> String {
    let above = spec["ContainerHierarchyTexts"].as_array().into_iter().flatten();
    let words: Vec<&str> = above
        .chain([&spec["LeafNodeText"]])
        .filter_map(Value::as_str)
        .filter(|text| !text.is_empty())
        .collect();
    if words.is_empty() {
        return spec["LeafNodeType"]
            .as_str()
            .unwrap_or("a step without a name")
            .to_owned();
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(kind: &str, text: &str, state: &str, message: &str) -> Value {
        json!({
            "ContainerHierarchyTexts": if text.is_empty() { Value::Null } else { json!(["[sig-network] DNS"]) },
            "LeafNodeType": kind,
            "LeafNodeText": text,
            "State": state,
            "Failure": { "Message": message },
        })
    }

    #[test]
    fn tests_are_counted_and_those_that_were_not_chosen_are_not() {
        let report = json!([{ "SpecReports": [
            spec("SynchronizedBeforeSuite", "", "passed", ""),
            spec("It", "should answer", "passed", ""),
            spec("It", "should not be asked", "skipped", ""),
            spec("It", "should be possible", "skipped", "needs two nodes\nat foo.go:12"),
            spec("It", "should be quick", "timedout", "A suite timeout occurred"),
            spec("It", "should be right", "failed", "expected 1\nto be 2"),
        ]}]);
        let verdict = judge(&report).unwrap();
        let expected = "1 passed, 2 failed, 1 skipped\
            \n  failed: [sig-network] DNS should be quick: A suite timeout occurred\
            \n  failed: [sig-network] DNS should be right: expected 1\
            \n  skipped: [sig-network] DNS should be possible: needs two nodes";
        assert_eq!(verdict.to_string(), expected);
        assert!(!verdict.good());
    }

    #[test]
    fn what_fails_before_all_tests_counts_and_no_tests_are_not_good() {
        let before = json!([{ "SpecReports": [spec("SynchronizedBeforeSuite", "", "failed", "no cluster")] }]);
        assert_eq!(
            judge(&before).unwrap().to_string(),
            "0 passed, 1 failed, 0 skipped\n  failed: SynchronizedBeforeSuite: no cluster"
        );
        assert!(!judge(&json!([{ "SpecReports": [] }])).unwrap().good());
        assert_eq!(judge(&json!({})), None);
    }
}
