//! A report's table, chart and targets, from figures made up for it.

use super::{
    Control, Machine, Program, Report, chart,
    table::Table,
    targets::{self, Bound},
};
use crate::bench::{
    arms, control,
    measure::{Figure, Group},
    workload::Workload,
};

/// The bare pair takes 1000 ns for a round trip, the rival three times, netpath's tunnel 1200.
fn report() -> Report {
    let mut paths = Vec::new();
    for (arm, group, min) in [
        (arms::BARE, Group::SameNode, 1000.0),
        (arms::NETPATH_DIRECT, Group::AcrossNodes, 1100.0),
        (arms::NETPATH_TUNNEL, Group::AcrossNodes, 1200.0),
        (arms::FLOOR_TUNNEL, Group::AcrossNodes, 1500.0),
        (arms::VXLAN_CHAINS, Group::AcrossNodes, 3000.0),
    ] {
        for (workload, times) in [(Workload::Rr, 1.0), (Workload::Crr, 6.0)] {
            let min = min * times;
            paths.push(Figure {
                arm,
                group,
                workload,
                min,
                median: min + 10.0,
            });
        }
    }
    let mut report = Report {
        machine: Machine {
            kernel: "6.18.0".to_owned(),
            processor: "a <fast> one".to_owned(),
            cpus: 2,
            release: true,
        },
        rounds: 60,
        paths,
        programs: vec![Program {
            hook: "from_pod",
            frame: "to a pod".to_owned(),
            verdict: "redirect".to_owned(),
            nanoseconds: 81.6,
        }],
        control: vec![Control {
            what: control::MEMORY,
            value: 26.0,
            unit: "MiB",
            how: "resident".to_owned(),
        }],
        targets: Vec::new(),
    };
    report.targets = targets::judge(&report);
    report
}

#[test]
fn targets_are_ratios_of_minima_and_say_what_is_missing() {
    let report = report();
    let verdicts: Vec<_> = report
        .targets
        .iter()
        .map(|target| (target.wanted, target.measured, target.reached))
        .collect();
    let missing = |bound| (bound, None, None);
    assert_eq!(
        verdicts,
        [
            missing(Bound::AtLeast(1.5)),
            missing(Bound::AtLeast(0.88)),
            (Bound::AtLeast(0.83), Some(1000.0 / 1100.0), Some(true)),
            (Bound::AtLeast(2.4), Some(2.5), Some(true)),
            (Bound::AtLeast(2.8), Some(2.5), Some(false)),
            (Bound::AtMost(1.12), Some(1200.0 / 1100.0), Some(true)),
            missing(Bound::AtMost(1.05)),
            missing(Bound::AtMost(1.05)),
            missing(Bound::AtMost(1.05)),
            missing(Bound::AtMost(1.03)),
            missing(Bound::AtMost(1.05)),
            missing(Bound::AtMost(1.05)),
            missing(Bound::AtMost(1.05)),
            missing(Bound::AtMost(1.03)),
            missing(Bound::AtLeast(1.4)),
            missing(Bound::AtLeast(1.15)),
            missing(Bound::AtMost(1.05)),
            missing(Bound::AtMost(1.05)),
            missing(Bound::AtMost(1.05)),
            missing(Bound::AtMost(1.05)),
            missing(Bound::AtMost(0.5)),
            missing(Bound::AtMost(2.0)),
            missing(Bound::AtMost(5.0)),
            (Bound::AtMost(25.0), Some(26.0), Some(false)),
            missing(Bound::AtMost(100.0)),
        ]
    );
}

#[test]
fn a_target_knows_its_floor() {
    let report = report();
    let floors: Vec<_> = report.targets.iter().map(|target| target.floor).collect();
    let mut expected = vec![None; report.targets.len()];
    // Both targets of the tunnel against flannel: 3000 by 1500.
    expected[3] = Some(2.0);
    expected[4] = Some(2.0);
    assert_eq!(floors, expected);
}

#[test]
fn the_table_has_every_figure_and_every_verdict() {
    let text = Table(&report()).to_string();
    for wanted in [
        "flannel vxlan + kube-proxy                  3000    3010  0.33     18000   18010  0.33",
        "from_pod: to a pod                            82  redirect",
        "agent's memory, 1,000 services            26.000 MiB   resident",
        ">= 2.80      2.50      2.00  NOT reached",
        ">= 2.40      2.50      2.00  reached",
        "<= 0.50         -         -  not measured",
    ] {
        assert!(text.contains(wanted), "no {wanted:?} in\n{text}");
    }
}

#[test]
fn the_chart_draws_two_bars_for_every_arm_and_escapes_text() {
    let svg = chart::draw(&report());
    for arm in [
        arms::BARE,
        arms::NETPATH_DIRECT,
        arms::NETPATH_TUNNEL,
        arms::FLOOR_TUNNEL,
        arms::VXLAN_CHAINS,
    ] {
        assert_eq!(svg.matches(&format!(">{arm}</text>")).count(), 1, "{arm}");
    }
    // Ten bars and the four squares of the legend.
    assert_eq!(svg.matches("<rect ").count(), 14);
    for element in ["text", "g", "svg", "style"] {
        let (opened, closed) = (format!("<{element}"), format!("</{element}>"));
        let opened = svg.matches(&format!("{opened} ")).count() + svg.matches(&format!("{opened}>")).count();
        assert_eq!(opened, svg.matches(&closed).count(), "{element}");
    }
}

#[test]
fn json_has_the_figures_under_plain_names() {
    let json: serde_json::Value = serde_json::from_str(&report().json().expect("numbers")).expect("JSON");
    assert_eq!(
        json["paths"][0],
        serde_json::json!({
            "arm": "bare veth pair", "group": "same_node", "workload": "rr", "min_ns": 1000.0, "median_ns": 1010.0
        })
    );
    assert_eq!(json["targets"][3]["wanted"], serde_json::json!({"at_least": 2.4}));
}
