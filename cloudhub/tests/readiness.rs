//! What load balancers and alarms are told of an instance.

#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap too")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use cloudhub::Readiness;
use cloudhub::pki::{Authority, AuthorityConfig, PkiConfig, PkiRequest, PkiService, SILENCE_MAX};
use http::{HeaderMap, Method};
use hub_core::credentials::CredentialFiles;

#[tokio::test]
async fn a_silent_cluster_fails_the_alarm_and_not_the_load_balancer() {
    let folder = tempfile::tempdir().unwrap();
    let files = |name: &str| {
        let at = |ending: &str| folder.path().join(format!("{name}.{ending}"));
        CredentialFiles::new(at("crt"), at("key"))
    };
    let config = AuthorityConfig {
        ca: files("ca"),
        server: files("server"),
        addresses: vec![[127, 0, 0, 1].into()],
        ..AuthorityConfig::default()
    };
    let authority = Arc::new(Authority::open(&config, SystemTime::now()).unwrap());
    let silence = Arc::new(Mutex::new(None));
    let told = silence.clone();
    let (tell, readiness) = tokio::sync::watch::channel(Readiness::Ready);
    let service = PkiService::new(
        authority,
        PkiConfig {
            readiness: Some(readiness),
            silence: Some(Arc::new(move || *told.lock().unwrap())),
            ..PkiConfig::default()
        },
    );
    let ask = async |path| {
        let request = PkiRequest {
            method: &Method::GET,
            path,
            headers: &HeaderMap::new(),
            client: None,
            now: SystemTime::now(),
        };
        let answer = service.respond(request, b"").await;
        let text = String::from_utf8_lossy(answer.body()).into_owned();
        (answer.status().as_u16(), text)
    };
    let ok = (200, "ok".to_owned());
    assert_eq!(
        (ask("/readyz").await, ask("/readyz/cluster").await),
        (ok.clone(), ok.clone())
    );

    *silence.lock().unwrap() = Some(SILENCE_MAX);
    assert_eq!(ask("/readyz/cluster").await, ok, "a restart is no alarm");

    *silence.lock().unwrap() = Some(SILENCE_MAX + Duration::from_secs(1));
    let (code, text) = ask("/readyz/cluster").await;
    assert!(code == 503 && text.contains("31 s"), "{code} {text}");
    let (code, text) = ask("/readyz").await;
    assert!(
        code == 200 && text.contains("served from what is held"),
        "{code} {text}"
    );
    assert_eq!(ask("/healthz").await, ok);

    tell.send_replace(Readiness::Draining);
    assert_eq!(ask("/readyz").await.0, 503);
}
