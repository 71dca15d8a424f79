//! What `up` prints when everything runs: the self-check's line, where things are, and a curl line to paste.
//!
//! Called by `up` once per start. It must never print the key itself: terminals are recorded and shared.

use std::path::Path;

use super::plan::Plan;
use super::self_check::Checked;
use crate::terminal::line;

/// What is worth telling.
#[derive(Debug)]
pub(super) struct Welcome {
    /// Whether the sample that the curl line names is there.
    pub(super) has_sample: bool,
    /// How the self-check ended.
    pub(super) checked: Checked,
}

impl Welcome {
    /// Writes it to the standard output.
    pub(super) fn print(&self, plan: &Plan) {
        line(&self.text(plan));
    }

    fn text(&self, plan: &Plan) -> String {
        let (url, key) = (plan.url(), plan.key_file());
        let checked = match &self.checked {
            Checked::Passed(what, took) => format!("Self-check: {what} probed in {} ms", took.as_millis()),
            Checked::Skipped => "Self-check skipped: ffmpeg was not found; `make setup` installs it".to_owned(),
        };
        let mut lines = vec![
            String::new(),
            checked,
            String::new(),
            format!("FFprobe API   {url}"),
            format!("Admin key     {}", key.display()),
            format!("Media roots   {}", plan.media_roots()),
            format!(
                "Metrics       http://{}/metrics (API), http://{}/metrics (worker)",
                plan.api_metrics, plan.worker_metrics
            ),
            format!("State         {}", plan.state.display()),
            "Docs          README.md and docs/".to_owned(),
        ];
        if plan.is_public() {
            lines.push(format!("Note          {} is reachable from other machines, without TLS", plan.address));
        }
        lines.push(String::new());
        if self.has_sample {
            lines.push("Try it:".to_owned());
            lines.push(format!(
                "  curl -s -H \"X-API-Key: $(cat {})\" -d '{{\"file_path\": \"/test/sample.mp4\"}}' {url}/api/v1/probe/file",
                shell_word(&key)
            ));
        } else {
            lines.push(format!("Put a media file into {} and name it in a job.", plan.media().display()));
        }
        lines.extend(["Ctrl-C stops everything; the data stays.".to_owned(), String::new()]);
        lines.join("\n")
    }
}

/// A path as one word of a shell command.
fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+@%".contains(&byte);
    if text.bytes().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_survives_the_shell() {
        assert_eq!(shell_word(Path::new("/var/lib/ffprobe-api/admin-api-key")), "/var/lib/ffprobe-api/admin-api-key");
        assert_eq!(shell_word(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }
}
