//! The report's plots, as SVG.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

/// One line of a plot.
pub(crate) struct Line<'l> {
    pub(crate) name: &'l str,
    pub(crate) points: &'l [(f64, f64)],
}

/// Lines over a linear x and a logarithmic y, with a limit drawn across.
pub(crate) fn lines(
    path: &Path,
    title: &str,
    (x_name, y_name): (&str, &str),
    limit: f64,
    lines: &[Line<'_>],
) -> Result<()> {
    let points = || lines.iter().flat_map(|line| line.points);
    let x_max = points().map(|(x, _)| *x).fold(0.0, f64::max) * 1.05;
    let y_max = points().map(|(_, y)| *y).fold(limit, f64::max) * 2.0;
    let area = SVGBackend::new(path, (800, 420)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..x_max, (0.3..y_max).log_scale())?;
    chart.configure_mesh().x_desc(x_name).y_desc(y_name).draw()?;
    chart.draw_series(LineSeries::new([(0.0, limit), (x_max, limit)], BLACK.mix(0.4)))?;
    for (index, line) in lines.iter().enumerate() {
        let colour = Palette99::pick(index).to_rgba();
        let points = line.points.iter().copied();
        chart
            .draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)))?
            .label(line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
        chart.draw_series(points.map(|point| Circle::new(point, 3, colour.filled())))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE)
        .draw()?;
    area.present().map_err(|error| anyhow!("{}: {error}", path.display()))
}

/// A bar for each class.
pub(crate) fn bars(path: &Path, title: &str, x_name: &str, bars: &[(String, f64)]) -> Result<()> {
    let y_max = bars.iter().map(|(_, share)| *share).fold(0.01, f64::max) * 1.1;
    let area = SVGBackend::new(path, (800, 320)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d((0..bars.len()).into_segmented(), 0.0..y_max)?;
    let name = |at: &SegmentValue<usize>| match at {
        SegmentValue::CenterOf(index) => bars.get(*index).map_or("", |bar| &bar.0).to_owned(),
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .x_desc(x_name)
        .y_desc("share of groups")
        .x_labels(bars.len())
        .x_label_formatter(&name)
        .disable_x_mesh()
        .draw()?;
    let histogram = Histogram::vertical(&chart)
        .style(Palette99::pick(0).filled())
        .margin(4)
        .data(bars.iter().enumerate().map(|(index, (_, share))| (index, *share)));
    chart.draw_series(histogram)?;
    area.present().map_err(|error| anyhow!("{}: {error}", path.display()))
}
