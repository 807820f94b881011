//! Who may know whom: the table of every file of both packages.

/// Files that are of one kind. A file may name those of its own layer and of the layers before it.
pub(crate) struct Layer {
    pub(crate) name: &'static str,
    /// Paths, in which a `*` stands for a name without slashes, and `**` for anything.
    pub(crate) files: &'static [&'static str],
    /// The files of the same layer that may name each other in a circle: one type, or one actor, in chapters.
    pub(crate) chapters: &'static [&'static [&'static str]],
    /// The layers before it that it may not name all the same.
    pub(crate) never: &'static [&'static str],
}

const fn layer(name: &'static str, files: &'static [&'static str]) -> Layer {
    Layer { name, files, chapters: &[], never: &[] }
}

/// From the bottom to the top. A file stands in the first layer that has it.
pub(crate) const LAYERS: &[Layer] = &[
    // What events, ports and machines have in common.
    layer(
        "words",
        &[
            "actors/src/{word,fault,name,note,arguments,task_call,deadline,serde}.rs",
            "actors/src/serde/duration.rs",
            "actors/src/core/{text,duration,storable,seldom,time,outcome,step_down,skip,pause,operation,policy}.rs",
            "actors/src/port/{schedule,schedule_identity,not_due,zone_data,obstacle}.rs",
            "actors/src/port/locker/*.rs",
            "actors/src/port/elector/*.rs",
        ],
    ),
    // Values and state machines: they decide, and do nothing.
    Layer {
        name: "core",
        files: &["actors/src/core/*.rs", "actors/src/core/{job,ledger,backfill,catalogue,control}/*.rs"],
        chapters: &[
            &["actors/src/core/job.rs", "actors/src/core/job/*.rs"],
            &["actors/src/core/ledger.rs", "actors/src/core/ledger/*.rs"],
            &["actors/src/core/backfill.rs", "actors/src/core/backfill/*.rs"],
            &["actors/src/core/catalogue.rs", "actors/src/core/catalogue/*.rs"],
            &["actors/src/core/control.rs", "actors/src/core/control/*.rs"],
        ],
        never: &[],
    },
    // What others implement, and what that needs.
    layer(
        "ports",
        &[
            "actors/src/{run,own_threads,signal,starts,event}.rs",
            "actors/src/event/*.rs",
            "actors/src/port/*.rs",
            "actors/src/port/clock/*.rs",
            "actors/src/port/history/*.rs",
            "actors/src/port/records/*.rs",
        ],
    ),
    // A backend over any store of records.
    Layer {
        name: "records",
        files: &["actors/src/records.rs", "actors/src/records/*.rs"],
        chapters: &[&["actors/src/records.rs", "actors/src/records/*.rs"]],
        never: &[],
    },
    // What is no actor, and is used by several of them.
    Layer {
        name: "shared",
        files: &[
            "actors/src/{event_filter,event_log,contained,coalesced,labels,metrics,hooks,body}.rs",
            "actors/src/{recipient,definition,job_config,job_names,job_state,error,drain,candidacy,health,failure_log,failing,overdue,alarm}.rs",
            "actors/src/{task,scheduled_task,stored_job,schedule_override,memory_catalogue}.rs",
            "actors/src/task/*.rs",
            "actors/src/explain.rs",
            "actors/src/explain/*.rs",
            "actors/src/{permits,catch_ups,placement,body_queue,body_watch,node,history}.rs",
            "actors/src/listener/{publisher,stream,subscriber}.rs",
            "actors/src/{node,definition,health,history,body_queue,error,metrics}/*.rs",
        ],
        // A task, and where it is registered.
        // A job as it is written, and as it was checked.
        // What is recorded, on its way.
        chapters: &[
            &["actors/src/task.rs", "actors/src/task/*.rs"],
            &["actors/src/definition.rs", "actors/src/definition/*.rs"],
            // Those that wait, and who begins them.
            &["actors/src/body_queue.rs", "actors/src/body_queue/*.rs"],
            &["actors/src/history/{recorder,writer,open_runs,collected,dropped}.rs"],
        ],
        never: &[],
    },
    // A backend of two systems.
    Layer {
        name: "composed",
        files: &["actors/src/composed.rs", "actors/src/composed/*.rs"],
        chapters: &[&["actors/src/composed.rs", "actors/src/composed/*.rs"]],
        never: &["elected"],
    },
    // A backend over an elector alone.
    Layer {
        name: "elected",
        files: &["actors/src/elected.rs", "actors/src/elected/*.rs"],
        chapters: &[&["actors/src/elected.rs", "actors/src/elected/*.rs"]],
        never: &[],
    },
    // Its handle has the address of its actor, which is typed: see `job.rs`.
    Layer {
        name: "job",
        files: &["actors/src/job.rs", "actors/src/job/*.rs"],
        chapters: &[&["actors/src/job.rs", "actors/src/job/*.rs"]],
        never: &[],
    },
    Layer {
        name: "lock",
        files: &["actors/src/lock.rs", "actors/src/lock/*.rs"],
        chapters: &[&["actors/src/lock.rs", "actors/src/lock/*.rs"]],
        never: &[],
    },
    Layer {
        name: "election",
        files: &["actors/src/election.rs", "actors/src/election/*.rs"],
        chapters: &[],
        never: &["job", "lock"],
    },
    Layer {
        name: "listener",
        files: &["actors/src/listener.rs"],
        chapters: &[],
        never: &["job", "lock", "election"],
    },
    // Only the supervisor knows everybody.
    Layer {
        name: "supervisor",
        files: &[
            "actors/src/message.rs",
            "actors/src/message/*.rs",
            "actors/src/message/cluster/*.rs",
            "actors/src/supervisor.rs",
            "actors/src/supervisor/**",
        ],
        chapters: &[
            &["actors/src/message.rs", "actors/src/message/cluster.rs", "actors/src/message/cluster/*.rs"],
            &["actors/src/supervisor.rs", "actors/src/supervisor/**"],
        ],
        never: &[],
    },
    // It makes the actors, and hands each its recipients.
    Layer {
        name: "engine",
        files: &["actors/src/engine.rs", "actors/src/engine/*.rs", "actors/src/engine/routed/*.rs"],
        // Those of several backends are one to whoever asks.
        chapters: &[&[
            "actors/src/engine.rs",
            "actors/src/engine/{named,routed}.rs",
            "actors/src/engine/routed/*.rs",
        ]],
        never: &[],
    },
    Layer {
        name: "test kit",
        files: &["actors/src/testkit/**"],
        chapters: &[
            &["actors/src/testkit/conformance/*.rs"],
            &["actors/src/testkit/store.rs", "actors/src/testkit/store/*.rs"],
        ],
        never: &[],
    },
    layer("surface", &["actors/src/{lib,adapter}.rs"]),
    Layer {
        name: "schedules",
        files: &["src/schedule/**"],
        chapters: &[&["src/schedule/**"]],
        never: &["job", "lock", "election", "listener", "supervisor", "engine", "test kit"],
    },
    Layer {
        name: "backends",
        files: &["src/backend/**"],
        chapters: &[
            &[
                "src/backend/postgres/{mod,locker,elector,backfills,control}.rs",
                "src/backend/postgres/catalogue/*.rs",
            ],
            // A session, and what it does beside what it is asked.
            &["src/backend/postgres/{session,sessions,forget,lost_runs}.rs"],
            // The calls of a round.
            &["src/backend/postgres/{batch,claims,completions}.rs"],
            &[
                "src/backend/postgres/statement.rs",
                "src/backend/postgres/statement/*.rs",
                "src/backend/postgres/statement/claim/*.rs",
            ],
            // To end a process of the server takes another connection.
            &["src/backend/postgres/{connection,former_connections}.rs"],
            &["src/backend/postgres/{settings,server,credentials,failure,cure}.rs"],
            // A connection knows its scripts, which run on it.
            &["src/backend/redis/{connection,script}.rs"],
        ],
        never: &["job", "lock", "election", "listener", "supervisor", "engine", "schedules"],
    },
    Layer {
        name: "facade",
        files: &["src/*.rs", "src/{builder,catalogue,handle,settings}/*.rs", "src/guide/mod.rs"],
        chapters: &[&["src/*.rs", "src/{builder,catalogue,handle,settings}/*.rs"]],
        never: &[],
    },
    Layer { name: "console", files: &["src/console/**"], chapters: &[&["src/console/**"]], never: &[] },
];

/// The modules of the engine that the facade may name. All other public items stand at the engine's root.
pub(crate) const SURFACE: &[&str] =
    &["port", "adapter", "metrics", "serde", "testkit", "actix", "chrono", "schemars", "tracing", "uuid"];

/// Files that only compute: the same answer for the same question, whenever and wherever it is asked.
pub(crate) const PURE: &[&str] =
    &["actors/src/core/**", "actors/src/explain/**", "actors/src/port/schedule.rs", "src/schedule/**"];

/// Those of them that do read something: the time zone data of the machine, once, when it is asked for.
pub(crate) const NOT_PURE: &[&str] = &["src/schedule/zone_dir.rs", "src/schedule/zone_data.rs"];

/// What a file that only computes does not name.
pub(crate) const EFFECTS: &[&str] = &[
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::hash::RandomState",
    "std::collections::hash_map::RandomState",
    "chrono::Utc::now",
    "chrono::Local",
    "chrono::offset::Utc::now",
    "chrono::offset::Local",
    "chrono::prelude",
    "jiff::Timestamp::now",
    "jiff::Zoned::now",
    "jiff::tz::TimeZone::system",
    "uuid::Uuid::new_v4",
    "uuid::Uuid::new_v7",
    "uuid::Uuid::now_v1",
    "uuid::Uuid::now_v6",
    "uuid::Uuid::now_v7",
    "uuid::Timestamp::now",
    "rand",
    "fastrand",
    "getrandom",
    "tokio",
    "tokio_util",
    "actix",
    "actix_rt",
    "actix_web",
    "metrics",
];
