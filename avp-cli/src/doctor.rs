//! `avp doctor`: whether models can run on this machine, and what to do if not.

use std::{
    env, fs,
    io::{Write, stdout},
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use avp_lab::embedded_model;
use avp_runtime_ort::{
    Device, GenerateOptions, LoadOptions, Model, OrtLibrary, Runtime, ThinkOptions, Thought, cache_folder,
};
use clap::Args;
use console::style;
use serde::Serialize;
use tempfile::TempDir;

use crate::model::{LibraryArgs, device};

/// Check whether models can run on this machine, and say what is missing and how to fix it
///
/// Runs the embedded model once. The exit code is 1 if it cannot run on --device.
#[derive(Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    library: LibraryArgs,
    /// Device that must work: cpu, cuda, or cuda:N for the GPU with that number
    #[arg(long, value_name = "DEVICE", default_value = "cpu", value_parser = device)]
    device: Device,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Everything found. The keys are a contract: `docs/cli.md` lists them.
#[derive(Serialize)]
struct Diagnosis {
    /// Whether the embedded model runs on the device asked for.
    ok: bool,
    #[serde(skip)]
    device: Device,
    version: &'static str,
    /// The features that this program was built with.
    features: Vec<&'static str>,
    /// Threads that this process may use at once.
    threads: usize,
    checks: Vec<Check>,
}

#[derive(Serialize)]
struct Check {
    check: &'static str,
    status: Status,
    detail: String,
    /// The file or folder that was checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<PathBuf>,
    /// What to do, where something is to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    /// Models run, but something is slower or unavailable.
    Warning,
    Error,
}

impl Doctor {
    pub(crate) fn run(&self) -> Result<bool> {
        let diagnosis = self.examine();
        let mut out = stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string(&diagnosis)?)?;
        } else {
            diagnosis.write(&mut out)?;
        }
        Ok(diagnosis.ok)
    }

    fn examine(&self) -> Diagnosis {
        let (library, runtime) = self.onnxruntime();
        let mut checks = vec![library, cache_folder_check()];
        let (unpacked, model) = Embedded::unpack();
        checks.push(unpacked);
        let run =
            |device, required| Some(run_check(runtime.as_ref()?, &model.as_ref()?.folder, device, required));
        checks.extend(run(Device::Cpu, self.device == Device::Cpu));
        if cfg!(feature = "cuda") || self.device != Device::Cpu {
            let gpu = match self.device {
                Device::Cpu => Device::Cuda { id: 0, memory_limit: None },
                gpu => gpu,
            };
            let required = self.device == gpu;
            checks.extend(if required || has_driver() { run(gpu, required) } else { Some(no_driver()) });
        }
        let name = run_name(self.device);
        Diagnosis {
            ok: checks.iter().any(|check| check.check == name && check.status == Status::Ok),
            device: self.device,
            version: env!("CARGO_PKG_VERSION"),
            features: crate::FEATURES.to_vec(),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            checks,
        }
    }

    fn onnxruntime(&self) -> (Check, Option<Runtime>) {
        let loaded = OrtLibrary::find(self.library.onnxruntime.as_deref())
            .and_then(|library| Ok((Runtime::load(&library)?, library)));
        match loaded {
            Ok((runtime, library)) => {
                let detail = format!(
                    "{} from {} (1.{} or newer is required)",
                    library.version(),
                    library.source(),
                    OrtLibrary::OLDEST_MINOR
                );
                let path = Some(library.path().to_owned());
                let check = Check { check: "onnxruntime", status: Status::Ok, detail, path, advice: None };
                (check, Some(runtime))
            }
            Err(error) => (Check::failed("onnxruntime", &error.into()), None),
        }
    }
}

impl Check {
    fn ok(check: &'static str, detail: impl Into<String>, path: &Path) -> Self {
        Self { check, status: Status::Ok, detail: detail.into(), path: Some(path.to_owned()), advice: None }
    }

    /// Messages end in `: ` and what to do, which stands on a line of its own here.
    fn failed(check: &'static str, error: &anyhow::Error) -> Self {
        let message = format!("{error:#}");
        let verb = ["run ", "set "].into_iter().find_map(|verb| message.rfind(&format!(": {verb}")));
        let (detail, advice) = match verb {
            Some(at) => (message[..at].to_owned(), Some(message[at + ": ".len()..].to_owned())),
            None => (message, None),
        };
        Self { check, status: Status::Error, detail, path: None, advice }
    }
}

/// Whether prepared graphs and the embedded model can be kept.
fn cache_folder_check() -> Check {
    const CHECK: &str = "cache folder";
    let unusable = |detail: String| Check {
        check: CHECK,
        status: Status::Warning,
        detail: format!("{detail}: every run prepares the model again"),
        path: cache_folder(),
        advice: Some("set AVP_CACHE_DIR to a folder that can be written".to_owned()),
    };
    let Some(folder) = cache_folder() else {
        return unusable("no variable names one (AVP_CACHE_DIR, XDG_CACHE_HOME, HOME)".to_owned());
    };
    let writable = fs::create_dir_all(&folder).and_then(|()| tempfile::tempfile_in(&folder));
    match writable {
        Ok(_) => Check::ok(CHECK, "can be written", &folder),
        Err(error) => unusable(format!("cannot be written ({error})")),
    }
}

/// The embedded model, in the cache folder or unpacked for this run.
struct Embedded {
    folder: PathBuf,
    /// Deletes the folder.
    _temporary: Option<TempDir>,
}

impl Embedded {
    /// Without a cache folder, models of other folders run, so the check of a run must still be made.
    fn unpack() -> (Check, Option<Self>) {
        const CHECK: &str = "embedded model";
        let error = match embedded_model() {
            Ok(folder) => {
                let check = Check::ok(CHECK, "unpacked and intact", &folder);
                return (check, Some(Self { folder, _temporary: None }));
            }
            Err(error) => Check::failed(CHECK, &error),
        };
        match Self::unpack_for_this_run() {
            Ok(embedded) => {
                let detail =
                    format!("{}: `avp demo` and `avp bench` need --model or MODEL_DIR", error.detail);
                (Check { status: Status::Warning, detail, ..error }, Some(embedded))
            }
            Err(_) => (error, None),
        }
    }

    fn unpack_for_this_run() -> Result<Self> {
        let temporary = tempfile::tempdir()?;
        Ok(Self { folder: avp_model_facts::unpack(temporary.path())?, _temporary: Some(temporary) })
    }
}

fn run_name(device: Device) -> &'static str {
    if device == Device::Cpu { "run on cpu" } else { "run on cuda" }
}

/// Whether there is an NVIDIA driver, as far as files tell: that of Linux, of WSL, or of Windows.
fn has_driver() -> bool {
    let windows = env::var_os("SystemRoot").map(|root| Path::new(&root).join("System32").join("nvcuda.dll"));
    let files = ["/proc/driver/nvidia/version", "/dev/dxg"].map(PathBuf::from);
    files.into_iter().chain(windows).any(|file| file.exists())
}

fn no_driver() -> Check {
    Check {
        check: run_name(Device::Cuda { id: 0, memory_limit: None }),
        status: Status::Warning,
        detail: "no NVIDIA driver is loaded: models run on the CPU only".to_owned(),
        path: None,
        advice: None,
    }
}

/// Whether the embedded model gives its known answer on a device.
fn run_check(runtime: &Runtime, folder: &Path, device: Device, required: bool) -> Check {
    let check = run_name(device);
    let start = Instant::now();
    let answer = || -> Result<()> {
        let options = LoadOptions { device, ..LoadOptions::default() };
        let model = Model::load(runtime, folder, &options)?;
        let read = model.think("Notes: Rosa lives in Lisbon.", None, &ThinkOptions::steps(0));
        let context = read.and_then(Thought::into_context).context("cannot read a prompt")?;
        let answer = model.generate("Where does Rosa live?", Some(&context), &GenerateOptions::default())?;
        ensure!(answer.text.contains("Lisbon"), "the model gave a wrong answer: {:?}", answer.text);
        Ok(())
    };
    match answer() {
        Ok(()) => {
            let detail = format!("the embedded model answers ({:.1} s)", start.elapsed().as_secs_f64());
            Check { check, status: Status::Ok, detail, path: None, advice: None }
        }
        Err(error) => {
            let failed = Check::failed(check, &error);
            Check { status: if required { Status::Error } else { Status::Warning }, ..failed }
        }
    }
}

impl Diagnosis {
    fn write(&self, out: &mut impl Write) -> Result<()> {
        let line =
            |out: &mut dyn Write, mark, name: &str, text: &str| writeln!(out, "{mark}  {name:<15} {text}");
        let none = style("-").dim();
        let features = if self.features.is_empty() { "none".to_owned() } else { self.features.join(", ") };
        line(out, none.clone(), "avp", &format!("{}, features: {features}", self.version))?;
        line(out, none, "threads", &self.threads.to_string())?;
        for Check { check, status, detail, path, advice } in &self.checks {
            let mark = match status {
                Status::Ok => style("+").green(),
                Status::Warning => style("!").yellow(),
                Status::Error => style("x").red(),
            };
            line(out, mark, check, detail)?;
            let path = path.as_ref().map(|path| path.display().to_string());
            for more in path.iter().chain(advice) {
                writeln!(out, "   {:<15} {more}", "")?;
            }
        }
        Ok(writeln!(out, "\n{}", style(self.verdict()).bold())?)
    }

    fn verdict(&self) -> String {
        let can = if self.ok { "can" } else { "cannot" };
        match self.device {
            Device::Cuda { id, .. } => format!("Models {can} run on cuda:{id}."),
            _ => format!("Models {can} run here."),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_split_from_the_message_of_the_runtime() {
        let error = anyhow::anyhow!("no library found, having looked at /a: run `pip install x`, or set Y");
        let check = Check::failed("onnxruntime", &error);
        assert_eq!(check.detail, "no library found, having looked at /a");
        assert_eq!(check.advice.as_deref(), Some("run `pip install x`, or set Y"));
        let error = anyhow::anyhow!("cannot unpack into /a: not a directory: set AVP_CACHE_DIR to /b");
        let check = Check::failed("embedded model", &error);
        assert_eq!(check.detail, "cannot unpack into /a: not a directory");
        assert_eq!(check.advice.as_deref(), Some("set AVP_CACHE_DIR to /b"));
        assert_eq!(Check::failed("x", &anyhow::anyhow!("plain")).advice, None);
    }
}
