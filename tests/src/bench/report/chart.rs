//! The chart that the README shows: a bar for each arm, its time for a request and answer and for a whole connection, the
//! bare veth pair being 1. Colours follow the reader's light or dark page.

use std::fmt::Write as _;

use super::Report;
use crate::bench::{
    arms,
    measure::{Figure, Group},
    workload::Workload,
};

const WIDTH: f64 = 860.0;
const MARGIN: f64 = 16.0;
/// Where bars begin: left of it stand the names.
const AXIS: f64 = 270.0;
/// Room to the right of the longest bar for its figure.
const FIGURE: f64 = 60.0;
const BAR: f64 = 9.0;
const ROW: f64 = 28.0;
const HEADING: f64 = 34.0;
/// Bars longer than this many times the bare pair are cut, and say so by their figure.
const LONGEST: f64 = 5.0;

const STYLE: &str = "\
text{font:13px system-ui,sans-serif;fill:#1f2328}.h{font-weight:600;font-size:14px}.n{font-size:11px;fill:#59636e}\
.rr{fill:#8c959f}.crr{fill:#c5cbd1}.own .rr{fill:#0969da}.own .crr{fill:#80b8f5}.own text{font-weight:600}\
.one{stroke:#59636e;stroke-dasharray:3 3}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.n{fill:#9198a1}.rr{fill:#7d8590}.crr{fill:#4b535c}\
.own .rr{fill:#4493f8}.own .crr{fill:#1f5fae}.one{stroke:#9198a1}}";

/// Draws the chart.
pub fn draw(report: &Report) -> String {
    let mut body = String::new();
    let mut y = MARGIN;
    legend(&mut body, y);
    y += 40.0;
    let top = y;
    for group in Group::ALL {
        let mut rows: Vec<&Figure> = report
            .paths
            .iter()
            .filter(|figure| figure.group == group && figure.workload == Workload::Rr)
            .collect();
        rows.sort_by(|one, other| one.min.total_cmp(&other.min));
        if rows.is_empty() {
            continue;
        }
        y += HEADING;
        line(&mut body, MARGIN, y - 10.0, "h", "start", group.title());
        for figure in rows {
            row(&mut body, report, figure.arm, y);
            y += ROW;
        }
    }
    let one = AXIS + unit();
    // Writing to a string does not fail.
    let _ = write!(
        body,
        r#"<line class="one" x1="{one:.1}" x2="{one:.1}" y1="{top:.1}" y2="{y:.1}"/>"#
    );
    y += 22.0;
    let machine = &report.machine;
    let note = format!(
        "Linux {}, one CPU, shortest of {} interleaved batches. Shorter is better; the dashed line is one bare veth pair.",
        machine.kernel, report.rounds
    );
    line(&mut body, MARGIN, y, "n", "start", &note);
    y += MARGIN;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{y:.0}\" viewBox=\"0 0 {WIDTH} {y:.0}\" role=\"img\" \
         aria-label=\"Time of netpath's paths beside their rivals\"><style>{STYLE}</style>{body}</svg>\n"
    )
}

/// The length of a bar that takes as long as the bare pair.
fn unit() -> f64 {
    (WIDTH - MARGIN - FIGURE - AXIS) / LONGEST
}

fn legend(body: &mut String, y: f64) {
    let mut x = AXIS;
    for (class, text) in [
        ("rr", "request and answer (TCP_RR)"),
        ("crr", "whole connection (TCP_CRR)"),
    ] {
        for (own, shift) in [("own", 0.0), ("", 14.0)] {
            let _ = write!(
                body,
                r#"<g class="{own}"><rect class="{class}" x="{:.1}" y="{y:.1}" width="12" height="12" rx="2"/></g>"#,
                x + shift
            );
        }
        line(body, x + 34.0, y + 11.0, "", "start", text);
        x += 270.0;
    }
}

fn row(body: &mut String, report: &Report, arm: &str, y: f64) {
    let own = if arms::is_own(arm) { "own" } else { "" };
    let _ = write!(body, r#"<g class="{own}">"#);
    line(body, AXIS - 10.0, y + BAR + 4.0, "", "end", arm);
    for (workload, class, shift) in [(Workload::Rr, "rr", 0.0), (Workload::Crr, "crr", BAR + 1.0)] {
        let (Some(figure), Some(bare)) = (report.figure(arm, workload), report.figure(arms::BARE, workload)) else {
            continue;
        };
        let times = figure.min / bare.min;
        let width = unit() * times.min(LONGEST);
        let top = y + shift;
        let _ = write!(
            body,
            r#"<rect class="{class}" x="{AXIS}" y="{top:.1}" width="{width:.1}" height="{BAR}" rx="1"/>"#
        );
        line(
            body,
            AXIS + width + 5.0,
            top + BAR - 0.5,
            "n",
            "start",
            &format!("{times:.2}"),
        );
    }
    body.push_str("</g>");
}

fn line(body: &mut String, x: f64, y: f64, class: &str, anchor: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let _ = write!(
        body,
        r#"<text class="{class}" x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{text}</text>"#
    );
}
