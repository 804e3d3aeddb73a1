//! `docs/reference/metrics.md`, made of what a scrape says.

use super::metrics::Registry;

const HEAD: &str = "# Metrics

Made from the code by `cargo nextest run -p rowmill reference`; don't edit.

`GET /metrics` on the console has them as OpenMetrics text ([operating](../how-to/operate.md)). Positions are numbers: of
`16/B374D848` it is 0x16B374D848. What a plugin counts itself stands beside them as `rowmill_plugin_NAME`, with the labels
`pipeline` and `plugin`.

";

/// The names of the labels of the first sample of a metric.
fn labels(text: &str, name: &str) -> Vec<String> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let mut of_name = samples.filter(|line| line.split(['{', ' ']).next().is_some_and(|it| it.starts_with(name)));
    let inside = of_name.next().and_then(|line| line.split_once('{')?.1.split_once('}'));
    let labels = inside.map_or("", |(labels, _)| labels).split(',');
    labels
        .filter_map(|label| Some(label.split_once('=')?.0.to_owned()))
        .collect()
}

fn page() -> String {
    let registry = Registry::new();
    registry.pipeline("p");
    registry.sink("p", "s");
    registry.plugin("p", "g");
    let text = registry.encode();
    let described = text
        .lines()
        .filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' '));
    let mut rows: Vec<String> = described
        .map(|(name, help)| {
            let is_of_it = |line: &str| {
                Some(
                    line.strip_prefix("# TYPE ")?
                        .strip_prefix(name)?
                        .strip_prefix(' ')?
                        .to_owned(),
                )
            };
            let kind = text.lines().find_map(is_of_it).expect("each has its type");
            let sampled = match kind.as_str() {
                "counter" => format!("{name}_total"),
                "info" => format!("{name}_info"),
                _ => name.to_owned(),
            };
            let labels = labels(&text, &sampled)
                .iter()
                .map(|label| format!("`{label}`"))
                .collect::<Vec<_>>();
            format!(
                "| `{sampled}` | {kind} | {} | {} |",
                labels.join(", "),
                help.trim_end_matches('.')
            )
        })
        .collect();
    rows.sort_unstable();
    format!(
        "{HEAD}| metric | type | labels | what it is |\n| --- | --- | --- | --- |\n{}",
        rows.join("\n")
    )
}

#[test]
fn the_reference_of_metrics_is_what_a_scrape_says() {
    crate::reference::check("metrics.md", &page());
}
