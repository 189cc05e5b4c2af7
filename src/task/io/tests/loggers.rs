//! Loggers, which are shell scripts here. Each test reaps children, so it runs in a process of its
//! own.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

/// Runs `test` while its reaper reaps in the background.
fn run_reaping<F: Future<Output = ()>>(test: impl FnOnce(Reaper) -> F) {
    run(async {
        let reaper = Reaper::default();
        let test = test(reaper.clone());
        let reaping = async {
            loop {
                reaper.reap();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! { () = test => {}, () = reaping => {} }
    });
}

fn script(folder: &Folder, text: &str) -> String {
    let path = folder.path("logger");
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    folder.text("logger")
}

/// A logger that records its environment, arguments and streams in the directory, and reports that
/// it is ready by closing descriptor 5.
fn recorder(folder: &Folder) -> String {
    let dir = folder.text("");
    script(
        folder,
        &format!(
            "env >{dir}env; for a in \"$@\"; do echo \"<$a>\"; done >{dir}args\n\
             exec 5>&-\ncat <&3 >{dir}out &\ncat <&4 >{dir}err\nwait"
        ),
    )
}

async fn start(stdio: &Stdio, reaper: &Reaper) -> Result<ProcessIo, IoError> {
    ProcessIo::open(stdio, PipeOwner::default(), CONTAINER, reaper).await
}

/// Check that a logger gets both streams complete, its arguments, and the two variables.
#[test]
fn a_logger_gets_everything() {
    if !runs_alone("loggers::a_logger_gets_everything") {
        return;
    }
    run_reaping(|reaper| async move {
        let folder = Folder::new();
        let uri = format!("binary://{}?id=a%20b&flag", recorder(&folder));
        let mut io = start(&stdio("", &uri, &uri), &reaper).await.unwrap();
        let child = io.child();
        io.release().await.unwrap();
        assert!(joined(process(child.stdout.unwrap(), bytes(1 << 20))).await);
        assert!(joined(process(child.stderr.unwrap(), b"err".to_vec())).await);
        assert!(io.drain(DRAIN).await);
        assert_same(&std::fs::read(folder.path("out")).unwrap(), &bytes(1 << 20));
        assert_eq!(std::fs::read(folder.path("err")).unwrap(), b"err");
        assert_eq!(
            std::fs::read_to_string(folder.path("args")).unwrap(),
            "<id>\n<a b>\n<flag>\n<>\n"
        );
        let env = std::fs::read_to_string(folder.path("env")).unwrap();
        assert!(
            env.contains("CONTAINER_ID=web\n") && env.contains("CONTAINER_NAMESPACE=k8s.io\n"),
            "{env}"
        );
        // The shell adds PWD and the like. The test's own variables must not appear.
        assert!(!env.contains("LOOKOUT") && !env.contains("CARGO"), "{env}");
        assert_eq!(reaper.living(), 0);
    });
}

/// Check that a terminal's output reaches a logger too.
#[test]
fn a_logger_may_receive_a_terminals_output() {
    if !runs_alone("loggers::a_logger_may_receive_a_terminals_output") {
        return;
    }
    run_reaping(|reaper| async move {
        let folder = Folder::new();
        let uri = format!("binary://{}", recorder(&folder));
        let terminal = Stdio { terminal: true, ..stdio("", &uri, "") };
        let mut io = start(&terminal, &reaper).await.unwrap();
        drop(io.child());
        let slave = terminals::hand_over(io.console_socket().unwrap());
        io.release().await.unwrap();
        assert!(joined(process(slave, bytes(200_000))).await);
        assert!(io.drain(DRAIN).await);
        assert_same(&std::fs::read(folder.path("out")).unwrap(), &bytes(200_000));
    });
}

/// Check that a logger that does not exit is ended at the close, and not before.
#[test]
fn a_logger_that_stays_is_ended_at_the_close() {
    if !runs_alone("loggers::a_logger_that_stays_is_ended_at_the_close") {
        return;
    }
    run_reaping(|reaper| async move {
        let folder = Folder::new();
        let uri = format!("binary://{}", script(&folder, "exec 5>&-; exec sleep 1000"));
        let mut io = start(&stdio("", &uri, ""), &reaper).await.unwrap();
        drop(io.child());
        assert!(!io.drain(BRIEFLY).await);
        assert_eq!(reaper.living(), 1);
        drop(io);
        until(|| reaper.living() == 0).await;
    });
}

/// Check that a logger that dies early loses its process's output, but blocks no call.
#[test]
fn a_logger_that_dies_does_not_hang_the_drain() {
    if !runs_alone("loggers::a_logger_that_dies_does_not_hang_the_drain") {
        return;
    }
    run_reaping(|reaper| async move {
        let folder = Folder::new();
        let uri = format!("binary://{}", script(&folder, "exit 3"));
        let mut io = start(&stdio("", &uri, ""), &reaper).await.unwrap();
        let child = io.child();
        assert!(!joined(process(child.stdout.unwrap(), bytes(1 << 20))).await);
        assert!(io.drain(DRAIN).await);
    });
}

/// Check that a logger that cannot be run, or does not become ready, is named in the error.
#[test]
fn a_logger_that_does_not_start_is_named() {
    if !runs_alone("loggers::a_logger_that_does_not_start_is_named") {
        return;
    }
    run_reaping(|reaper| async move {
        let folder = Folder::new();
        let missing = folder.text("missing");
        let error =
            start(&stdio("", &format!("binary://{missing}"), ""), &reaper).await.unwrap_err();
        assert!(error.to_string().contains(&missing), "{error}");
        let IoError::Logger { source, .. } = error else { panic!("{error}") };
        assert_eq!(source.kind(), std::io::ErrorKind::NotFound);

        let silent = script(&folder, "exec 5>&-; exec sleep 1000");
        let error =
            start(&stdio("", &format!("binary-v2://{silent}"), ""), &reaper).await.unwrap_err();
        assert!(
            matches!(error, IoError::LoggerNotReady { program } if program == Path::new(&silent))
        );
        until(|| reaper.living() == 0).await;

        let reporting = script(&folder, "echo >&5; exec 5>&-; exec cat <&3");
        let io = start(&stdio("", &format!("binary-v2://{reporting}"), ""), &reaper).await.unwrap();
        drop(io);
        until(|| reaper.living() == 0).await;
    });
}
