//! The user's cache folder.

use std::path::PathBuf;

/// The folder for data that is reused by later runs, such as prepared graphs. It need not exist yet.
///
/// `AVP_CACHE_DIR`, else `avp` in `XDG_CACHE_HOME`, `~/.cache` or `LOCALAPPDATA`; `None` if no such variable is set.
///
/// ```
/// if let Some(folder) = avp_runtime_ort::cache_folder() {
///     println!("prepared graphs: {}", folder.join("prepared").display());
/// }
/// ```
pub fn cache_folder() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("AVP_CACHE_DIR")
        .or_else(|| set("XDG_CACHE_HOME").map(|path| path.join("avp")))
        .or_else(|| set("HOME").map(|path| path.join(".cache").join("avp")))
        .or_else(|| set("LOCALAPPDATA").map(|path| path.join("avp")))
}
