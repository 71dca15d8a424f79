//! The migrations are compiled in; without this line, cargo does not notice a changed SQL file.

fn main() {
    println!("cargo:rerun-if-changed=../migrations");
}
