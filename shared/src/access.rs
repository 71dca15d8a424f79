//! Who may do what: tenants own everything, keys and tokens open what their role and scopes allow. Words and rules only;
//! the API asks them at its door, the store keeps what they need. Pure: no clock, no randomness, no database.

pub mod key;
pub mod principal;
pub mod refresh;
pub mod right;
pub mod token;

pub use key::{ApiKey, Pepper};
pub use principal::{Principal, Standing, TenantLimits};
pub use refresh::RefreshToken;
pub use right::{Need, Reach, Right, Rights, Role};
pub use token::{AccessToken, NotTaken, TokenKeys};
