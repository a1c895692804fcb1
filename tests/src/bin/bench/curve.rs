//! How something grows with the number of apps in a pod: a line of text, and a plot.

use std::fmt::Write;

/// What it is like with so many apps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Point {
    /// The apps of the pod, with the last one.
    pub(crate) apps: u32,
    /// What the last one took to be added and started.
    pub(crate) milliseconds: f64,
    /// The memory of the pod's PID 1 in KiB.
    pub(crate) memory: u64,
}

/// The first and the last tenth, compared.
pub(crate) fn text(points: &[Point]) -> String {
    let tenth = (points.len() / 10).max(1).min(points.len());
    let median = |points: &[Point]| {
        let mut times: Vec<f64> = points.iter().map(|point| point.milliseconds).collect();
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied().unwrap_or_default()
    };
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return String::new();
    };
    format!(
        "\n{} apps in one pod: the first {tenth} take {:.1} ms each, the last {:.1} ms; PID 1 has {} KiB, then {} KiB\n",
        points.len(),
        median(&points[..tenth]),
        median(&points[points.len() - tenth..]),
        first.memory,
        last.memory,
    )
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 320.0;
const MARGIN: f64 = 50.0;

/// Both curves, each on a scale of its own that begins at zero.
pub(crate) fn svg(points: &[Point]) -> String {
    let apps = points.last().map_or(1, |point| point.apps);
    let times: Vec<f64> = points.iter().map(|point| point.milliseconds).collect();
    let memory: Vec<f64> = points.iter().map(|point| point.memory as f64).collect();
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let bottom = HEIGHT - MARGIN;
    // Writing to a string has no errors.
    let _ = writeln!(
        out,
        "<path d=\"M{MARGIN} {MARGIN}V{bottom}H{}V{MARGIN}\" fill=\"none\" stroke=\"black\"/>\n\
         <text x=\"{}\" y=\"{}\" text-anchor=\"middle\">apps in the pod, up to {apps}</text>",
        WIDTH - MARGIN,
        WIDTH / 2.0,
        HEIGHT - 15.0,
    );
    for (values, color, label, x) in [
        (times, "#0060c0", "add + start: up to {} ms", MARGIN),
        (
            memory,
            "#c04000",
            "memory of PID 1: up to {} KiB",
            WIDTH / 2.0,
        ),
    ] {
        let most = values.iter().copied().fold(1.0, f64::max);
        let label = label.replace("{}", &format!("{most:.0}"));
        let across = (WIDTH - 2.0 * MARGIN) / (values.len().max(2) - 1) as f64;
        let place = |(at, value): (usize, &f64)| {
            let y = bottom - value / most * (HEIGHT - 2.0 * MARGIN);
            format!("{:.1},{y:.1}", MARGIN + across * at as f64)
        };
        let line: Vec<String> = values.iter().enumerate().map(place).collect();
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\"/>\n<text x=\"{x}\" y=\"30\" fill=\"{color}\">{label}</text>",
            line.join(" ")
        );
    }
    out.push_str("</svg>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points() -> Vec<Point> {
        let point = |apps| Point {
            apps,
            milliseconds: 40.0,
            memory: 9_000 + u64::from(apps),
        };
        (1..=20).map(point).collect()
    }

    #[test]
    fn ends_are_compared() {
        let text = text(&points());
        let expected = "20 apps in one pod: the first 2 take 40.0 ms each, the last 40.0 ms; PID 1 has 9001 KiB, then 9020 KiB";
        assert_eq!(text.trim(), expected);
        assert_eq!(super::text(&[]), "");
    }

    #[test]
    fn a_flat_curve_is_a_flat_line() {
        let svg = svg(&points());
        assert!(svg.contains("points=\"50.0,50.0 "), "{svg}");
        assert_eq!(svg.matches("polyline").count(), 2);
    }
}
