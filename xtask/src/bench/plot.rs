//! The report's plots, as SVG.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

/// Of a plot of lines, in pixels.
const SIZE: (u32, u32) = (800, 420);

type Area<'b> = DrawingArea<SVGBackend<'b>, Shift>;

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
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart =
        builder(&area, title).build_cartesian_2d(0.0..x_max, (0.3..y_max).log_scale())?;
    chart.configure_mesh().x_desc(x_name).y_desc(y_name).draw()?;
    chart.draw_series(LineSeries::new([(0.0, limit), (x_max, limit)], BLACK.mix(0.4)))?;
    draw(&mut chart, lines)?;
    area.present().map_err(|error| anyhow!("{}: {error}", path.display()))
}

/// Lines over a linear x and a linear y that begins at 0.
pub(crate) fn linear(
    path: &Path,
    title: &str,
    (x_name, y_name): (&str, &str),
    lines: &[Line<'_>],
) -> Result<()> {
    let points = || lines.iter().flat_map(|line| line.points);
    let x_max = points().map(|(x, _)| *x).fold(0.0, f64::max) * 1.05;
    let y_max = points().map(|(_, y)| *y).fold(0.0, f64::max) * 1.3; // With room for the legend.
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = builder(&area, title).build_cartesian_2d(0.0..x_max, 0.0..y_max)?;
    chart.configure_mesh().x_desc(x_name).y_desc(y_name).draw()?;
    draw(&mut chart, lines)?;
    area.present().map_err(|error| anyhow!("{}: {error}", path.display()))
}

fn builder<'a, 'b>(area: &'a Area<'b>, title: &str) -> ChartBuilder<'a, 'b, SVGBackend<'b>> {
    let mut builder = ChartBuilder::on(area);
    builder.caption(title, ("sans-serif", 18)).margin(12);
    builder.x_label_area_size(40).y_label_area_size(60);
    builder
}

/// Draws the lines with their points, and says whose they are.
fn draw<'a, 'b: 'a, Y: Ranged<ValueType = f64>>(
    chart: &mut ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, Y>>,
    lines: &[Line<'_>],
) -> Result<()> {
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
    Ok(())
}

/// A bar for each class.
pub(crate) struct Bars<'b> {
    pub(crate) path: &'b Path,
    pub(crate) title: &'b str,
    pub(crate) x_name: &'b str,
    pub(crate) y_name: &'b str,
    pub(crate) bars: &'b [(String, f64)],
}

pub(crate) fn bars(of: &Bars<'_>) -> Result<()> {
    let Bars { path, title, x_name, y_name, bars } = *of;
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
        .y_desc(y_name)
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
