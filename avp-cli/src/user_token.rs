//! The token with which a user's programs reach that user's servers on one machine.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

/// A token, and the file that keeps it for this user alone.
pub(crate) struct UserToken {
    pub(crate) path: PathBuf,
    pub(crate) token: String,
}

impl UserToken {
    /// The user's token, created at the first call.
    ///
    /// # Errors
    /// When its folder is unknown, its file cannot be read or written, or other users can read it.
    pub(crate) fn find_or_make() -> Result<Self> {
        let path =
            path().context("no variable names a folder for it (AVP_CONFIG_DIR, XDG_CONFIG_HOME, HOME)")?;
        match read(&path)? {
            Some(token) => Ok(Self { path, token }),
            None => make(path),
        }
    }

    /// The user's token, if a server has made one.
    ///
    /// # Errors
    /// When its file cannot be read, or is readable by other users.
    pub(crate) fn find() -> Result<Option<Self>> {
        let Some(path) = path() else { return Ok(None) };
        Ok(read(&path)?.map(|token| Self { path, token }))
    }
}

/// `token` in `AVP_CONFIG_DIR`, else in `avp` in `XDG_CONFIG_HOME`, `~/.config` or `APPDATA`.
fn path() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = set("AVP_CONFIG_DIR")
        .or_else(|| set("XDG_CONFIG_HOME").map(|path| path.join("avp")))
        .or_else(|| set("HOME").map(|path| path.join(".config").join("avp")))
        .or_else(|| set("APPDATA").map(|path| path.join("avp")));
    folder.map(|folder| folder.join("token"))
}

fn read(path: &Path) -> Result<Option<String>> {
    let named = || format!("cannot read {}", path.display());
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.with_context(named)?,
    };
    check_private(&file, path)?;
    let mut text = String::new();
    file.take(4096).read_to_string(&mut text).with_context(named)?;
    let token = text.trim_ascii();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        bail!("{} does not hold a token; remove it, and start `avp serve` again", path.display());
    }
    Ok(Some(token.to_owned()))
}

/// Refuses a file that other users have made or can read: they may know its token.
#[cfg(unix)]
fn check_private(file: &File, path: &Path) -> Result<()> {
    use std::os::unix::fs::MetadataExt as _;

    let metadata = file.metadata().with_context(|| format!("cannot read {}", path.display()))?;
    let remedy = "remove it, and start `avp serve` again for a new one";
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        bail!("the token in {} belongs to another user; {remedy}", path.display());
    }
    if metadata.mode() & 0o077 != 0 {
        let mode = metadata.mode() & 0o777;
        bail!("other users can read the token in {} (mode {mode:03o}); {remedy}", path.display());
    }
    Ok(())
}

/// The user's folder has the user's permissions.
#[cfg(not(unix))]
fn check_private(_: &File, _: &Path) -> Result<()> {
    Ok(())
}

fn make(path: PathBuf) -> Result<UserToken> {
    let token = format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>());
    let named = || format!("cannot write {}", path.display());
    let folder = path.parent().unwrap_or(Path::new("."));
    make_private_folder(folder).with_context(named)?;
    // Readable by this user alone from its first byte on, and there as a whole or not at all.
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(named)?;
    writeln!(file, "{token}").and_then(|()| file.as_file().sync_all()).with_context(named)?;
    match file.persist_noclobber(&path) {
        Ok(_) => Ok(UserToken { path, token }),
        // Another server was faster.
        Err(error) if error.error.kind() == ErrorKind::AlreadyExists => {
            let token = read(&path)?.with_context(named)?;
            Ok(UserToken { path, token })
        }
        Err(error) => Err(error.error).with_context(named),
    }
}

fn make_private_folder(folder: &Path) -> std::io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_token_is_made_once_in_a_file_for_its_user_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("avp").join("token");
        assert_eq!(read(&path).unwrap(), None);
        let made = make(path.clone()).unwrap();
        assert_eq!(made.token.len(), 64);
        assert_eq!(read(&path).unwrap(), Some(made.token.clone()));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(make(path).unwrap().token, made.token, "the first one stays");
    }

    #[test]
    fn a_token_that_others_can_read_is_refused_and_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = make(folder.path().join("token")).unwrap().path;
        let token = read(&path).unwrap().unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("640") && !error.contains(&token), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "two\ntokens\n").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("does not hold a token"));
    }
}
