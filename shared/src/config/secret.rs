//! Reading and judging secrets. Messages name the variable, never the value.

use std::collections::HashSet;
use std::path::Path;

use secrecy::{ExposeSecret, SecretString};

use super::ConfigError;

/// Shortest secret taken, in characters (the production checklist's floor).
const MIN_CHARS: usize = 32;
/// Fewest different characters a secret may have; 32 random hexadecimal digits have 9 or more all but always.
const MIN_DIFFERENT: usize = 8;
/// Words that stand in copied examples and never in a random secret.
const PLACEHOLDERS: [&str; 6] = ["change", "example", "password", "secret", "default", "quickstart"];

/// The secret from `NAME` or from the file that `NAME_FILE` names; surrounding white space of a file is dropped.
pub fn read(
    variable: &'static str,
    value: Option<&SecretString>,
    file: Option<&Path>,
) -> Result<Option<SecretString>, ConfigError> {
    match (value, file) {
        (Some(_), Some(_)) => {
            Err(ConfigError::new(variable, format!("both {variable} and {variable}_FILE are set"), "keep one of them"))
        }
        (Some(value), None) if value.expose_secret().is_empty() => Ok(None),
        (Some(value), None) => Ok(Some(value.clone())),
        (None, Some(path)) => {
            let text = std::fs::read_to_string(path).map_err(|e| {
                ConfigError::new(
                    variable,
                    format!("the file {} of {variable}_FILE cannot be read: {e}", path.display()),
                    "name a file this user may read",
                )
            })?;
            let text = text.trim();
            if text.is_empty() {
                return Err(ConfigError::new(
                    variable,
                    format!("the file {} is empty", path.display()),
                    "write the secret into it",
                ));
            }
            Ok(Some(text.to_owned().into()))
        }
        (None, None) => Ok(None),
    }
}

/// The secret, if it is there and not a weak one.
pub fn require_strong(variable: &'static str, secret: Option<SecretString>) -> Result<SecretString, ConfigError> {
    let fix = "set it to the output of: openssl rand -hex 32";
    let secret = secret.ok_or_else(|| ConfigError::new(variable, "it is not set", fix))?;
    let text = secret.expose_secret();
    if text.chars().count() < MIN_CHARS {
        return Err(ConfigError::new(variable, format!("it is shorter than {MIN_CHARS} characters"), fix));
    }
    if text.chars().collect::<HashSet<_>>().len() < MIN_DIFFERENT {
        return Err(ConfigError::new(variable, "it repeats a few characters", fix));
    }
    let lower = text.to_lowercase();
    if let Some(word) = PLACEHOLDERS.iter().find(|w| lower.contains(**w)) {
        return Err(ConfigError::new(variable, format!("it contains '{word}', so it is a placeholder"), fix));
    }
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(text: &str) -> bool {
        require_strong("X", Some(text.to_owned().into())).is_ok()
    }

    #[test]
    fn weak_secrets_are_refused() {
        assert!(require_strong("X", None).is_err());
        for weak in [
            "",
            "short",
            &"a".repeat(64),
            &"ab12".repeat(16),
            "changeme-changeme-0123456789-abcdefgh",
            "my-secret-0123456789abcdefghijklmno",
        ] {
            assert!(!judge(weak), "{weak}");
        }
        assert!(judge("5f1d7c0be2a94e6fb0c3d9182a7e64f55f1d7c0be2a94e6f"));
    }

    #[test]
    fn a_file_and_a_value_contradict_each_other() {
        let value: SecretString = "a".to_owned().into();
        assert!(read("X", Some(&value), Some(Path::new("/nowhere"))).is_err());
        assert!(read("X", None, Some(Path::new("/nowhere"))).unwrap_err().to_string().contains("X_FILE"));
        assert!(read("X", None, None).unwrap().is_none());
        assert_eq!(read("X", Some(&value), None).unwrap().unwrap().expose_secret(), "a");
    }
}
