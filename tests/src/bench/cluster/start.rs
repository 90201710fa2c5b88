//! How soon a pod is Ready: the time from its creation to the event that says so.

use std::time::{Duration, Instant};

use anyhow::Result;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, PostParams};

use super::{
    Row,
    site::{Site, ready},
};

/// Starts pods on the first node, one after the other, and deletes each before the next.
///
/// # Errors
/// The API server refuses one, or it does not become Ready.
pub fn measure(site: &Site, pods: usize, services: usize) -> Result<Row> {
    let times = (0..pods)
        .map(|number| one(site, &format!("starting-{number}")))
        .collect::<Result<Vec<_>>>()?;
    let what = format!("a pod is created: Ready, {services} services");
    Ok(Row::middle(what, times, "pods"))
}

fn one(site: &Site, name: &str) -> Result<Duration> {
    let pod = site.pod(name)?;
    site.ask(async {
        let api = site.api::<Pod>();
        let since = Instant::now();
        api.create(&PostParams::default(), &pod).await?;
        ready(&api, name).await?;
        let elapsed = since.elapsed();
        api.delete(name, &DeleteParams::default()).await?;
        while api.get_opt(name).await?.is_some() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(elapsed)
    })
}
