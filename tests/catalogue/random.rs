//! Random stories: jobs are put, changed, deleted, overridden and paused while nodes are cut off, die and come back
//! with
//! other code. At the end the catalogue and all nodes agree, and each one-shot has run once, or a decision says why
//! not.

use std::collections::{BTreeMap, BTreeSet};

use callsheet::{ClearOverride, EventKind, OverrideSchedule, PauseJobs, ResumeJobs, chrono::TimeDelta};

use super::*;

const NODES: usize = 3;
const STEPS: usize = 60;
const CODE: [&str; 2] = ["code a", "code b"];

/// Numbers that a seed decides (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).expect("it is small")]
    }
}

struct Story {
    dice: Dice,
    done: Done,
    /// The nodes that run, by their places in the cluster.
    nodes: [usize; NODES],
    cut_off: BTreeSet<usize>,
    /// The one-shots that were stored, and that nobody has tried to delete since.
    one_shots: BTreeSet<String>,
}

impl Story {
    async fn begin(rig: &mut Rig, seed: u64) -> Self {
        rig.set_lease(secs(30));
        let mut story = Self {
            dice: Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            done: Done::default(),
            nodes: [0; NODES],
            cut_off: BTreeSet::new(),
            one_shots: BTreeSet::new(),
        };
        for place in 0..NODES {
            story.nodes[place] = rig.node(story.code()).await;
        }
        rig.advance(secs(2)).await;
        story
    }

    /// A node whose code is one of several versions.
    fn code(&mut self) -> Builder {
        let period = mins(self.dice.one_of(&[10, 20]));
        let jobs = CODE.map(|name| Job::new(name, every(period)).run(async |_| {}));
        node_with(jobs).task::<Say>(self.done.clone())
    }

    fn node(&mut self) -> usize {
        let place = self.dice.below(NODES as u64);
        self.nodes[usize::try_from(place).expect("it is small")]
    }

    /// Does something. What a node that is cut off is asked for may fail.
    async fn step(&mut self, rig: &mut Rig, nth: usize) {
        let node = self.node();
        let job = format!("job {}", self.dice.below(6));
        let code = self.dice.one_of(&CODE);
        match self.dice.below(20) {
            0..5 => self.put(rig, node, &job).await,
            5..7 => drop(rig.send(node, DeleteJob::new(job)).await),
            7..11 => self.remind(rig, node, nth).await,
            11 => self.forget_one(rig, node).await,
            12 => {
                let period = Definition::from(every(mins(self.dice.one_of(&[7, 15, 30]))));
                drop(rig.send(node, OverrideSchedule::new(code, &period)).await);
            }
            13 => drop(rig.send(node, ClearOverride::new(code)).await),
            14 => drop(rig.send(node, PauseJobs::new(code)).await),
            15 => drop(rig.send(node, ResumeJobs::new(code)).await),
            16 if self.cut_off.len() + 1 < NODES => {
                rig.cut_off(node);
                self.cut_off.insert(node);
            }
            16 | 17 => {
                if let Some(node) = self.cut_off.pop_first() {
                    rig.reconnect(node);
                }
            }
            18 => self.redeploy(rig, node).await,
            _ => {
                let silent = self.dice.below(2) == 0;
                rig.store().set_silent(silent);
            }
        }
        let pause = Duration::from_millis(self.dice.below(300_000));
        rig.advance(pause).await;
    }

    async fn put(&mut self, rig: &mut Rig, node: usize, job: &str) {
        let mut json = says(&self.dice.below(1_000).to_string());
        json["schedule"] = json!({"every": self.dice.one_of(&["5m", "10m", "1h"])});
        json["enabled"] = json!(self.dice.below(5) > 0);
        drop(rig.send(node, PutJob::new(job, &stored(json))).await);
    }

    async fn remind(&mut self, rig: &mut Rig, node: usize, nth: usize) {
        let after = TimeDelta::seconds(1 + i64::try_from(self.dice.below(5_400)).expect("it is small"));
        let job = format!("shot {nth:02}");
        let mut json = says(&job);
        json["schedule"] = json!({"at": [rig.now() + after]});
        json["remove_when_done"] = json!(true);
        if rig.send(node, PutJob::new(&*job, &stored(json))).await.is_ok() {
            self.one_shots.insert(job);
        }
    }

    async fn forget_one(&mut self, rig: &mut Rig, node: usize) {
        if let Some(job) = self.one_shots.pop_first() {
            drop(rig.send(node, DeleteJob::new(job)).await);
        }
    }

    async fn redeploy(&mut self, rig: &mut Rig, node: usize) {
        if self.cut_off.remove(&node) {
            rig.reconnect(node);
        }
        rig.kill(node);
        let place = self.nodes.iter().position(|one| *one == node).expect("it runs");
        self.nodes[place] = rig.node(self.code()).await;
    }

    async fn end(&mut self, rig: &mut Rig) {
        for node in std::mem::take(&mut self.cut_off) {
            rig.reconnect(node);
        }
        rig.advance(mins(5)).await;
        self.all_agree(rig).await;
        // All one-shots are due by then.
        rig.advance(hours(4)).await;
        self.all_agree(rig).await;
        self.each_one_shot_ran_once(rig).await;
    }

    /// Each node holds what the catalogue has, and overrides what it says.
    async fn all_agree(&self, rig: &mut Rig) {
        let node = self.nodes[0];
        let stored = rig.send(node, ListStored::default()).await.expect("it answers").jobs;
        let (mut jobs, mut overrides) = (BTreeMap::new(), BTreeMap::new());
        for row in stored {
            let is_override = row.definition.get("override").is_some();
            // Of one-shots that are neither near nor far, some nodes know.
            let is_job = row.here == StoredHere::Held || row.here == StoredHere::Far;
            assert!(is_override || is_job || row.here == StoredHere::Disabled, "{row:?}");
            if is_override {
                overrides.insert(row.job.to_string(), row.version);
            } else if is_job {
                jobs.insert(row.job.to_string(), Some(row.version));
            }
        }
        jobs.extend(CODE.map(|name| (name.to_owned(), None)));
        for node in self.nodes {
            let page = rig.send(node, ListJobs::default()).await;
            let held: BTreeMap<_, _> =
                page.jobs.iter().map(|job| (job.name.to_string(), job.stored)).collect();
            let is_far = |job: &String| job.starts_with("shot") && !held.contains_key(job);
            let expected: BTreeMap<_, _> = jobs
                .iter()
                .filter(|(job, _)| !is_far(job))
                .map(|(job, version)| (job.clone(), *version))
                .collect();
            assert_eq!(held, expected, "node {node}");
            let overridden = page
                .jobs
                .iter()
                .filter_map(|job| Some((job.name.to_string(), job.overridden.as_ref()?.version)));
            assert_eq!(overridden.collect::<BTreeMap<_, _>>(), overrides, "node {node}");
        }
    }

    async fn each_one_shot_ran_once(&self, rig: &mut Rig) {
        let (mut told, mut lost) = (BTreeMap::<String, usize>::new(), BTreeSet::new());
        for recorded in rig.events() {
            match recorded.event.kind {
                EventKind::RunStarted { job, .. } => *told.entry(job.to_string()).or_default() += 1,
                EventKind::TickSkipped { job, count, .. } => {
                    *told.entry(job.to_string()).or_default() += usize::try_from(count).expect("it is small");
                }
                EventKind::RunLost { job, .. } => drop(lost.insert(job.to_string())),
                _ => {}
            }
        }
        for job in &self.one_shots {
            // A node may die between its claim and the start of the body.
            let is_lost = lost.contains(job) && !told.contains_key(job);
            assert!(
                is_lost || told.get(job) == Some(&1),
                "{job}: {:?}, once, and not in silence",
                told.get(job)
            );
        }
        let left = rig.send(self.nodes[0], ListStored::default()).await.expect("it answers").jobs;
        let left: Vec<_> = left.iter().filter(|row| row.job.starts_with("shot")).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn whatever_happens_the_catalogue_and_all_nodes_agree_at_the_end() {
    for seed in 1..=10 {
        println!("seed {seed}");
        simulate(START, async move |rig| {
            let mut story = Story::begin(rig, seed).await;
            for nth in 0..STEPS {
                story.step(rig, nth).await;
            }
            story.end(rig).await;
        });
    }
}
