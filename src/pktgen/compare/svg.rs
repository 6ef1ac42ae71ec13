//! SVG by hand: what a picture of lines over two axes needs.
//!
//! A picture has a ground of its own, light, or dark where whoever looks at it prefers that: so it is legible on any page.

use std::fmt::Write;

/// Width of every picture.
pub const WIDTH: f64 = 760.0;

/// One picture: its height, and what is drawn.
pub struct Picture {
    height: f64,
    body: String,
}

/// Colours that people tell apart who see few (Okabe and Ito), for light and for dark ground.
const COLOURS: [(&str, &str); 8] = [
    ("#0072b2", "#56b4e9"),
    ("#d55e00", "#ff8c42"),
    ("#009e73", "#3fd6a8"),
    ("#b0528f", "#e39ac6"),
    ("#8a6d00", "#f0c53a"),
    ("#3d3d3d", "#d9d9d9"),
    ("#5b4fc9", "#a79cff"),
    ("#a11d33", "#ff7d8f"),
];

/// Text as it may stand in XML.
pub fn escaped(text: &str) -> String {
    let mut t = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => t.push_str("&amp;"),
            '<' => t.push_str("&lt;"),
            '>' => t.push_str("&gt;"),
            '"' => t.push_str("&quot;"),
            // XML has no word for these.
            c if c.is_control() => t.push(' '),
            c => t.push(c),
        }
    }
    t
}

/// One file of all pictures, under each other.
pub fn document(pictures: &[Picture]) -> String {
    let height: f64 = pictures.iter().map(|p| p.height).sum();
    let mut t = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         role=\"img\">\n<style>\n{}</style>\n<rect class=\"ground\" width=\"100%\" height=\"100%\"/>\n",
        style()
    );
    let mut y = 0.0;
    for p in pictures {
        let _ = write!(t, "<g transform=\"translate(0 {y})\">\n{}</g>\n", p.body);
        y += p.height;
    }
    t.push_str("</svg>\n");
    t
}

fn style() -> String {
    let mut t = String::from(
        "text { font: 13px system-ui, sans-serif; fill: #1f2328; }\n.title { font-size: 16px; font-weight: 600; }\n\
         .quiet { fill: #59636e; }\n.mark { stroke: #ffffff; stroke-width: 4px; paint-order: stroke; }\n.ground { fill: #ffffff; }\n.grid { stroke: #d8dee4; fill: none; }\n\
         .frame { stroke: #818b98; fill: none; }\n.same { stroke: #818b98; stroke-dasharray: 2 4; fill: none; }\n\
         .line { fill: none; stroke-width: 2; }\n.few { stroke-dasharray: 3 4; stroke-width: 1.5; }\n",
    );
    let colours = |t: &mut String, which: fn(&(&'static str, &'static str)) -> &'static str| {
        for (n, c) in COLOURS.iter().enumerate() {
            let _ = writeln!(t, ".s{n} {{ stroke: {0}; }} .f{n} {{ fill: {0}; }}", which(c));
        }
    };
    colours(&mut t, |c| c.0);
    t.push_str(
        "@media (prefers-color-scheme: dark) {\ntext { fill: #f0f3f6; }\n.quiet { fill: #b1bac4; }\n\
         .mark { stroke: #151b23; }\n.ground { fill: #151b23; }\n.grid { stroke: #30363d; }\n.frame, .same { stroke: #9198a1; }\n",
    );
    colours(&mut t, |c| c.1);
    t.push_str("}\n");
    t
}

/// A place on an axis that is told.
pub struct Tick {
    /// Where it is, from 0 to 1.
    pub at: f64,
    /// What stands there; nothing, for a line alone.
    pub word: Option<String>,
    /// Its word goes before those of others, where there is no room for all.
    pub first: bool,
}

/// An area with two axes, which is drawn into by shares of its sides (0 to 1, from the left and from below).
pub struct Plot {
    body: String,
    width: f64,
    height: f64,
    legend: f64,
}

/// The words that do not stand on each other on an axis of a length, where each takes `half` to either side.
fn with_room(ticks: &[Tick], length: f64, half: impl Fn(&str) -> f64) -> Vec<(f64, &str)> {
    let mut taken: Vec<(f64, f64)> = Vec::new();
    let mut said = Vec::new();
    for turn in [true, false] {
        for tick in ticks.iter().filter(|t| t.first == turn) {
            let Some(word) = &tick.word else { continue };
            let (middle, half) = (tick.at * length, half(word));
            if taken.iter().all(|(from, to)| middle + half < *from || middle - half > *to) {
                taken.push((middle - half, middle + half));
                said.push((tick.at, word.as_str()));
            }
        }
    }
    said
}

const LEFT: f64 = 74.0;
const TOP: f64 = 44.0;

impl Plot {
    /// An empty one, `height` high; its width is that of the picture.
    pub fn new(title: &str, height: f64, [x, y]: [&str; 2]) -> Plot {
        let width = WIDTH - LEFT - 28.0;
        let mut body = String::new();
        let _ = writeln!(body, "<text class=\"title\" x=\"{LEFT}\" y=\"27\">{}</text>", escaped(title));
        let _ = writeln!(
            body,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            LEFT + width / 2.0,
            TOP + height + 40.0,
            escaped(x)
        );
        let (cx, cy) = (18.0, TOP + height / 2.0);
        let _ = writeln!(
            body,
            "<text x=\"{cx}\" y=\"{cy:.1}\" text-anchor=\"middle\" transform=\"rotate(-90 {cx} {cy:.1})\">{}</text>",
            escaped(y)
        );
        Plot { body, width, height, legend: TOP + height + 66.0 }
    }

    fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        (LEFT + x * self.width, TOP + (1.0 - y) * self.height)
    }

    /// Lines across, and what they are. Words that would stand on each other are left out.
    pub fn ticks(&mut self, along_x: &[Tick], along_y: &[Tick]) {
        for tick in along_x {
            let ((x, bottom), (_, top)) = (self.at((tick.at, 0.0)), self.at((tick.at, 1.0)));
            let _ = writeln!(self.body, "<path class=\"grid\" d=\"M{x:.1} {bottom:.1}V{top:.1}\"/>");
        }
        for tick in along_y {
            let ((left, y), (right, _)) = (self.at((0.0, tick.at)), self.at((1.0, tick.at)));
            let _ = writeln!(self.body, "<path class=\"grid\" d=\"M{left:.1} {y:.1}H{right:.1}\"/>");
        }
        for (at, word) in with_room(along_x, self.width, |word| 4.0 * word.chars().count() as f64 + 2.0) {
            let (x, y) = self.at((at, 0.0));
            let _ = writeln!(
                self.body,
                "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                y + 18.0,
                escaped(word)
            );
        }
        for (at, word) in with_room(along_y, self.height, |_| 7.5) {
            let (x, y) = self.at((0.0, at));
            let _ = writeln!(
                self.body,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                x - 7.0,
                y + 4.5,
                escaped(word)
            );
        }
        let ((x, y), (w, h)) = (self.at((0.0, 1.0)), (self.width, self.height));
        let _ = writeln!(
            self.body,
            "<rect class=\"frame\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{w:.1}\" height=\"{h:.1}\"/>"
        );
    }

    /// A line through points; `class` says how it looks.
    pub fn line(&mut self, class: &str, points: &[(f64, f64)]) {
        if points.len() < 2 {
            return;
        }
        let mut d = String::new();
        let mut last = (f64::NAN, f64::NAN);
        for p in points {
            let (x, y) = self.at(*p);
            // Nobody sees less than a third of a pixel.
            if (x - last.0).abs() + (y - last.1).abs() < 0.3 {
                continue;
            }
            let _ = write!(d, "{}{x:.1} {y:.1}", if d.is_empty() { "M" } else { "L" });
            last = (x, y);
        }
        let _ = writeln!(self.body, "<path class=\"{class}\" d=\"{d}\"/>");
    }

    /// A dot of a series, with what a pointer over it tells.
    pub fn dot(&mut self, series: usize, at: (f64, f64), tells: &str) {
        let (x, y) = self.at(at);
        let _ = writeln!(
            self.body,
            "<circle class=\"f{series}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"><title>{}</title></circle>",
            escaped(tells)
        );
    }

    /// A word in the area; `anchor` as in SVG, `move_px` from its place.
    pub fn word(&mut self, at: (f64, f64), move_px: (f64, f64), anchor: &str, text: &str) {
        let (x, y) = self.at(at);
        let _ = writeln!(
            self.body,
            "<text class=\"quiet mark\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
            x + move_px.0,
            y + move_px.1,
            escaped(text)
        );
    }

    /// How far two places are from each other, in pixels.
    pub fn distance(&self, a: (f64, f64), b: (f64, f64)) -> f64 {
        let (a, b) = (self.at(a), self.at(b));
        (a.0 - b.0).hypot(a.1 - b.1)
    }

    /// The next line of the legend: of a series, or only words.
    pub fn legend(&mut self, series: Option<usize>, text: &str) {
        let y = self.legend;
        let mut x = LEFT;
        if let Some(n) = series {
            let _ = writeln!(self.body, "<path class=\"line s{n}\" d=\"M{LEFT} {:.1}h24\"/>", y - 4.5);
            x += 32.0;
        }
        let class = if series.is_some() { "" } else { " class=\"quiet\"" };
        let _ = writeln!(self.body, "<text{class} x=\"{x}\" y=\"{y:.1}\">{}</text>", escaped(text));
        self.legend += 19.0;
    }

    /// It is finished.
    pub fn done(self) -> Picture {
        Picture { height: self.legend, body: self.body }
    }
}
