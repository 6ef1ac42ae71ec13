//! Log lines of the control side: text on a terminal, one JSON object a line otherwise. To stderr.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::config::{LogFormat, LogLevel};

struct Settings {
    level: LogLevel,
    json: bool,
}

static SETTINGS: OnceLock<Settings> = OnceLock::new();

/// Sets level and format, once; later calls change nothing.
pub fn init(level: LogLevel, format: LogFormat) {
    let json = match format {
        LogFormat::Text => false,
        LogFormat::Json => true,
        LogFormat::Auto => !std::io::stderr().is_terminal(),
    };
    let _ = SETTINGS.set(Settings { level, json });
}

/// Something an operator wants to know.
pub fn info(message: impl Display) {
    line(LogLevel::Info, &message.to_string());
}

/// Something an operator should look at.
pub fn warn(message: impl Display) {
    line(LogLevel::Warn, &message.to_string());
}

/// Something that failed.
pub fn error(message: impl Display) {
    line(LogLevel::Error, &message.to_string());
}

fn line(level: LogLevel, message: &str) {
    let default = Settings { level: LogLevel::Info, json: false };
    let s = SETTINGS.get().unwrap_or(&default);
    if level > s.level {
        return;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let word = word(level);
    let text = if s.json {
        let time = now.as_millis() as u64;
        serde_json::json!({ "time_ms": time, "level": word, "message": message }).to_string()
    } else {
        format!("millrace {word}: {message}")
    };
    // A log that cannot be written must not end the node.
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn word(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    }
}
