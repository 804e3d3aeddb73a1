//! Lines in an SVG, legible on a light and on a dark page.

use std::fmt::Write;

pub struct Series {
    pub label: String,
    pub points: Vec<(f64, f64)>,
}

/// x on a logarithmic axis, y from zero.
pub struct Plot {
    pub x: String,
    pub y: String,
    pub series: Vec<Series>,
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 320.0;
/// Around the lines: for numbers and names.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 28.0;
const BOTTOM: f64 = 52.0;
const COLOURS: [&str; 4] = ["#2a78c8", "#c8642a", "#3f9a4f", "#8a5cc0"];

impl Plot {
    pub fn svg(&self) -> String {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let lowest = points().map(|(x, _)| *x).fold(f64::MAX, f64::min);
        let widest = points().map(|(x, _)| *x).fold(0.0, f64::max);
        let highest = points().map(|(_, y)| *y).fold(0.0, f64::max);
        let top = nice(highest);
        let across = (widest / lowest).ln().max(f64::MIN_POSITIVE);
        let x_of = |x: f64| LEFT + (x / lowest).ln() / across * (WIDTH - LEFT - RIGHT);
        let y_of = |y: f64| HEIGHT - BOTTOM - y / top * (HEIGHT - TOP - BOTTOM);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
             font-size=\"12\" fill=\"#808080\">\n"
        );
        for step in 0..=4 {
            let y = top * f64::from(step) / 4.0;
            let at = y_of(y);
            line(&mut svg, (LEFT, at), (WIDTH - RIGHT, at), "#80808060");
            text(&mut svg, LEFT - 6.0, at + 4.0, "end", &number(y));
        }
        let mut xs: Vec<f64> = points().map(|(x, _)| *x).collect();
        xs.sort_by(f64::total_cmp);
        xs.dedup();
        for x in xs {
            text(&mut svg, x_of(x), HEIGHT - BOTTOM + 18.0, "middle", &number(x));
        }
        text(&mut svg, LEFT, TOP - 12.0, "start", &self.y);
        text(&mut svg, (LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 12.0, "middle", &self.x);
        for (at, series) in self.series.iter().enumerate() {
            let colour = COLOURS[at % COLOURS.len()];
            let path: Vec<String> = series
                .points
                .iter()
                .map(|(x, y)| format!("{:.1},{:.1}", x_of(*x), y_of(*y)))
                .collect();
            let _ = writeln!(
                svg,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
                path.join(" ")
            );
            for (x, y) in &series.points {
                let _ = writeln!(
                    svg,
                    "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\" fill=\"{colour}\"><title>{}: {}</title></circle>",
                    x_of(*x),
                    y_of(*y),
                    number(*x),
                    number(*y)
                );
            }
            if let (false, Some((x, y))) = (series.label.is_empty(), series.points.last()) {
                text(&mut svg, x_of(*x), y_of(*y) - 10.0, "end", &series.label);
            }
        }
        svg.push_str("</svg>\n");
        svg
    }
}

fn line(svg: &mut String, from: (f64, f64), to: (f64, f64), colour: &str) {
    let _ = writeln!(
        svg,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\"/>",
        from.0, from.1, to.0, to.1
    );
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, of: &str) {
    let of = of.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{of}</text>"
    );
}

/// The next of 1, 2, 4, 5, 10 times a power of ten: quarters of it are short numbers.
fn nice(value: f64) -> f64 {
    let power = 10f64.powf(value.max(f64::MIN_POSITIVE).log10().floor());
    let steps = [1.0, 2.0, 4.0, 5.0, 10.0];
    steps
        .iter()
        .map(|step| step * power)
        .find(|top| *top >= value)
        .unwrap_or(value)
}

fn number(value: f64) -> String {
    if value >= 10.0 || value.fract() == 0.0 {
        return format!("{value:.0}");
    }
    format!("{value:.2}").trim_end_matches('0').to_owned()
}
