//! D: clocks that are off, and the moment at which a consent ends.

use std::time::{Duration, Instant};

use assent_proto::ledger::v1::{NotReleased, Signed};
use assent_proto::v1::decision_service_client::DecisionServiceClient;
use assent_proto::v1::CheckConsentRequest;
use prost::Message;
use rand::Rng;
use tonic::{Code, Status};

use super::super::patients::treatment_of;
use super::super::world::World;
use super::crash::{BEFORE, HEAL_LIMIT};
use crate::client;
use crate::error::{Error, While};

const HOUR_MS: i64 = 3_600_000;
const TEN_YEARS_MS: i64 = 10 * 365 * 24 * HOUR_MS;
/// How long a node with a wrong clock is watched.
const WATCH: Duration = Duration::from_secs(8);
/// From now to the end of the consent.
const LIFE: Duration = Duration::from_secs(12);
/// Questions are asked from this much before the end to this much after.
const AROUND: Duration = Duration::from_secs(2);
const ASK_PAUSE: Duration = Duration::from_millis(150);

/// Either way, by chance.
fn either(world: &mut World, offset_ms: i64) -> i64 {
    match world.rng.gen_bool(0.5) {
        true => offset_ms,
        false => -offset_ms,
    }
}

async fn restart(world: &World, organization: &str, offset_ms: i64) -> Result<(), Error> {
    world.nodes.stop(organization).await?;
    let further = match offset_ms {
        0 => Vec::new(),
        _ => vec![format!("--clock-offset-ms={offset_ms}")],
    };
    world.nodes.start_once(organization, &further)
}

/// D1.
pub async fn one_clock(world: &mut World) -> Result<f64, Error> {
    world.begin_load().await?;
    tokio::time::sleep(BEFORE).await;
    let asked = ["cedar", "birch"].map(String::from);
    let victim = world.one_of(&asked);
    let others = world.others(&[&victim]);
    let mut worst = 0f64;
    for offset in [HOUR_MS, TEN_YEARS_MS] {
        let offset = either(world, offset);
        eprintln!("     {victim} is off by {offset} ms");
        restart(world, &victim, offset).await?;
        let begin = Instant::now();
        while begin.elapsed() < WATCH {
            worst = worst.max(world.heal("one clock was off", &others, HEAL_LIMIT).await?);
            if world.status(&victim).await.is_ok_and(|status| status.fresh) {
                world.wrong(format!("{victim} says that it is fresh with a clock off by {offset} ms"));
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let checks = |c: &&super::super::observed::CheckSeen| c.organization == victim && c.asked >= begin;
        let permits = world.journal.lock().checks.iter().filter(checks).filter(|c| c.permitted).count();
        if permits > 0 {
            world.wrong(format!("{victim} permitted {permits} times with a clock off by {offset} ms"));
        }
    }
    let height = world.height(&others[0]).await?;
    restart(world, &victim, 0).await?;
    world.wait_back(&victim, height).await?;
    world.heal("its clock was right again, through it", &[victim], HEAL_LIMIT).await?;
    Ok(worst)
}

/// D3.
pub async fn two_clocks(world: &mut World) -> Result<f64, Error> {
    world.begin_load().await?;
    tokio::time::sleep(BEFORE).await;
    let (off, right) = world.halves();
    for victim in &off {
        let offset = either(world, HOUR_MS / 6);
        eprintln!("     {victim} is off by {offset} ms");
        restart(world, victim, offset).await?;
    }
    // Three of four are up after each restart; now all are, two of them with another time.
    let (begin, mut worst) = (Instant::now(), 0f64);
    while begin.elapsed() < WATCH {
        worst = worst.max(world.heal("two clocks were off", &right, HEAL_LIMIT).await?);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    for victim in &off {
        let height = world.height(&right[0]).await?;
        restart(world, victim, 0).await?;
        world.wait_back(victim, height).await?;
    }
    world.heal("the clocks were right again", &right, HEAL_LIMIT).await?;
    Ok(worst)
}

/// An answer about the consent that ends.
struct Answered {
    organization: String,
    permitted: bool,
    /// Block time that the answer was given from, where it says so.
    time_ms: Option<u64>,
}

/// D4. `t` is the first moment at which the consent no longer holds; answers are judged by the block time that they name.
pub async fn end_of_consent(world: &mut World) -> Result<f64, Error> {
    world.begin_load().await?;
    let end = time::OffsetDateTime::now_utc() + LIFE;
    let last = end.replace_nanosecond(0).during(|| "telling the time".into())?;
    let format = time::macros::format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    let text = last.format(&format).during(|| "telling the time".into())?;
    // The end is inclusive to its precision: the whole last second counts.
    let t_ms = u64::try_from((last.unix_timestamp() + 1) * 1_000).unwrap_or(0);
    let name = "ends-at-t";
    world.register(vec![name.into()], &text).await?;
    let mut clients = Vec::new();
    for organization in world.organizations() {
        let channel = client::connect(&world.network, &organization, "crm").await?;
        clients.push((organization, DecisionServiceClient::new(channel)));
    }
    let until = |at_ms: u64| Duration::from_millis(at_ms.saturating_sub(now_ms()));
    let around = AROUND.as_millis() as u64;
    tokio::time::sleep(until(t_ms - around)).await;
    let mut answers = Vec::new();
    while now_ms() < t_ms + around {
        let asks = clients.iter().map(|(organization, client)| {
            let mut client = client.clone();
            let request = CheckConsentRequest {
                query: Some(treatment_of(&world.canary, name)),
                consistency: None,
                omit_decision: true,
            };
            async move { (organization.clone(), client.check_consent(request).await) }
        });
        for (organization, answer) in futures::future::join_all(asks).await {
            let (permitted, time_ms) = match answer {
                Ok(answer) => (true, answer.into_inner().answer.map(|a| a.time_ms)),
                Err(status) if status.code() == Code::PermissionDenied => (false, judged_at(&status)),
                // Two recipients at once may be told to ask again: no answer about the consent.
                Err(status) => {
                    world.journal.failed(&status);
                    continue;
                }
            };
            answers.push(Answered { organization, permitted, time_ms });
        }
        tokio::time::sleep(ASK_PAUSE).await;
    }
    for fault in judge(&answers, &world.organizations(), t_ms) {
        world.wrong(fault);
    }
    let all = world.organizations();
    world.heal("the questions", &all, HEAL_LIMIT).await?;
    Ok(answers.len() as f64)
}

fn now_ms() -> u64 {
    u64::try_from(time::OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000).unwrap_or(0)
}

/// Block time in the signed `not released`.
fn judged_at(status: &Status) -> Option<u64> {
    let details = tonic_types::Status::decode(status.details()).ok()?.details;
    let signed = details.iter().find(|d| d.type_url.ends_with("Signed"))?;
    let signed = Signed::decode(signed.value.as_slice()).ok()?;
    NotReleased::decode(signed.body.as_slice()).ok().map(|body| body.time_ms)
}

/// The same answer at the same block time, on every node: PERMIT before t, and not from t on.
fn judge(answers: &[Answered], organizations: &[String], t_ms: u64) -> Vec<String> {
    let mut faults = Vec::new();
    for answer in answers {
        let Some(time_ms) = answer.time_ms else { continue };
        if answer.permitted != (time_ms < t_ms) {
            faults.push(format!(
                "{} {} {} ms {} t",
                answer.organization,
                if answer.permitted { "permitted" } else { "refused" },
                time_ms.abs_diff(t_ms),
                if time_ms < t_ms { "before" } else { "after" },
            ));
        }
    }
    for (permitted, what) in [(true, "permit"), (false, "refusal")] {
        if !answers.iter().any(|a| a.permitted == permitted && a.time_ms.is_some()) {
            faults.push(format!("no {what} named its block time: nothing was compared"));
        }
    }
    for organization in organizations {
        let mut of_it = answers.iter().filter(|a| a.organization == *organization);
        let first = of_it.next().is_some_and(|a| a.permitted);
        let last = of_it.next_back().is_some_and(|a| !a.permitted);
        if !first || !last {
            faults.push(format!("{organization} did not go from PERMIT to not released around t"));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers() -> Vec<Answered> {
        let answer =
            |(permitted, time_ms)| Answered { organization: "elm".into(), permitted, time_ms: Some(time_ms) };
        [(true, 900), (true, 999), (false, 1_000), (false, 1_900)].map(answer).into()
    }

    #[test]
    fn an_answer_on_the_wrong_side_of_t_is_found() {
        let organizations = ["elm".to_owned()];
        assert_eq!(judge(&answers(), &organizations, 1_000), Vec::<String>::new());
        let mut early = answers();
        early[1].permitted = false;
        assert_eq!(judge(&early, &organizations, 1_000), ["elm refused 1 ms before t"]);
        let mut late = answers();
        late[2].permitted = true;
        assert_eq!(judge(&late, &organizations, 1_000), ["elm permitted 0 ms after t"]);
    }

    #[test]
    fn a_node_that_did_not_change_its_answer_is_found() {
        let organizations = ["elm".to_owned(), "cedar".to_owned()];
        let mut silent = answers();
        silent.iter_mut().for_each(|a| a.time_ms = a.time_ms.filter(|_| a.permitted));
        assert!(judge(&silent, &organizations[..1], 1_000)[0].starts_with("no refusal named its block time"));
        let faults = judge(&answers(), &organizations, 1_000);
        assert_eq!(faults, ["cedar did not go from PERMIT to not released around t"]);
    }
}
