//! The real ffprobe through the range server, compared with itself reading the file.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::origin::{Server, Step, part_head};
use super::*;

/// A file that ffmpeg makes; the mp4's index stands at its end.
fn made(dir: &Path, name: &str, seconds: u32) -> PathBuf {
    let path = dir.join(name);
    let video = format!("testsrc2=s=640x360:r=25:d={seconds}");
    let audio = format!("sine=d={seconds}");
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i", &video, "-f", "lavfi", "-i", &audio])
        .args(["-c:v", "libx264", "-preset", "ultrafast", "-b:v", "4M", "-c:a", "aac"])
        .arg(&path)
        .status()
        .unwrap();
    assert!(status.success(), "{name}");
    path
}

async fn ffprobe(input: String, show: &'static [&'static str]) -> Output {
    let run = tokio::task::spawn_blocking(move || {
        let common = ["-v", "warning", "-show_error", "-of", "json", "-show_format", "-show_streams"];
        Command::new("ffprobe").args(common).args(show).args(["-i", &input]).output()
    });
    run.await.unwrap().unwrap()
}

/// Its answer without the name of the input.
fn answer(output: &Output) -> String {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().filter(|l| !l.contains("\"filename\"")).collect::<Vec<_>>().join("\n")
}

async fn serve_file(path: &Path) -> Server {
    let bytes: Arc<Vec<u8>> = Arc::new(std::fs::read(path).unwrap());
    Server::start(move |asked| {
        let (head, until) = part_head(asked, bytes.len() as u64, "v");
        vec![head, Step::Send(bytes[usize::try_from(asked.from).unwrap()..usize::try_from(until).unwrap()].to_vec())]
    })
    .await
}

#[tokio::test]
#[expect(clippy::print_stdout, reason = "what a probe costs is worth a look")]
async fn it_says_the_same_as_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a.mp4", "a.mkv", "a.ts"] {
        let path = made(dir.path(), name, 20);
        let server = serve_file(&path).await;
        for show in [&[][..], &["-count_packets"]] {
            let remote = open(&server.url()).await.unwrap();
            let served = remote.serve().unwrap();
            // an alias without extension, as the worker gives it
            let alias = dir.path().join(format!("{name}-input").replace('.', "-"));
            let _ = std::os::unix::fs::symlink(&path, &alias);
            let direct = ffprobe(format!("file:{}", alias.display()), show).await;
            let through = ffprobe(served.url(), show).await;
            assert!(direct.status.success() && answer(&direct).contains("codec_name"), "{name}");
            assert_eq!(answer(&through), answer(&direct), "{name} {show:?}");
            assert_eq!(remote.finish().await, None);
            let account = remote.account();
            println!("{name} {show:?}: {} bytes, {account:?}", std::fs::metadata(&path).unwrap().len());
            assert!(account.requests <= 9, "{name}: {account:?}");
        }
    }
}

#[tokio::test]
async fn what_the_server_saw_is_told_and_not_what_ffprobe_made_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = made(dir.path(), "a.mp4", 20);
    let bytes: Arc<Vec<u8>> = Arc::new(std::fs::read(&path).unwrap());
    let server = Server::start(move |asked| {
        let (head, until) = part_head(asked, bytes.len() as u64, "v");
        let sent = bytes[usize::try_from(asked.from).unwrap()..usize::try_from(until).unwrap()].to_vec();
        if asked.from == 0 { vec![head, Step::Send(sent)] } else { vec![head, Step::Reset] }
    })
    .await;
    let remote = open(&server.url()).await.unwrap();
    let served = remote.serve().unwrap();
    let output = ffprobe(served.url(), &[]).await;
    assert!(!output.status.success());
    assert_eq!(remote.finish().await.map(|f| f.code), Some(FailureCode::ConnectionLost));
}
