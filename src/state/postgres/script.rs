//! The requests of a transaction that applies a change, in order.
//!
//! Responsible for: the order of DESIGN section 5: one row locks, fences and chains; then the rows
//! that changed; then what completions run. And what each request is for, so that its error can be
//! told from others.
//! Not responsible for: sending them, or what follows from an error (`apply`).

use std::borrow::Cow;

use tokio_postgres::{Error, Statement};
use uuid::Uuid;

use crate::state::postgres::actions::Call;
use crate::state::postgres::columns::{
    ADD_DELIVERIES, Deliveries, Manifests, Members, Parameters, STORE_MANIFESTS, STORE_MEMBERS,
};
use crate::state::postgres::nul;
use crate::state::postgres::pipeline::{Request, execute, simple};
use crate::state::postgres::retired::{NAMED, Objects, RETIRE};
use crate::state::postgres::shard::advance;
use crate::state::{Change, Lease, StateError};

/// The engine's statements, prepared on one connection.
pub(super) struct Prepared {
    advance: Statement,
    manifests: Statement,
    members: Statement,
    retire: Statement,
    named: Statement,
    deliveries: Statement,
}

impl Prepared {
    /// Costs nothing on a connection where it was done before.
    pub(super) async fn on(client: &deadpool_postgres::Client) -> Result<Self, Error> {
        Ok(Self {
            advance: client.prepare_cached(advance()).await?,
            manifests: client.prepare_cached(STORE_MANIFESTS).await?,
            members: client.prepare_cached(STORE_MEMBERS).await?,
            retire: client.prepare_cached(RETIRE).await?,
            named: client.prepare_cached(NAMED).await?,
            deliveries: client.prepare_cached(ADD_DELIVERIES).await?,
        })
    }
}

/// Whose change it is and where it leads.
pub(super) struct Head<'a> {
    pipeline: &'a str,
    shard: i32,
    epoch: i64,
    token: Uuid,
    from: i64,
    to: i64,
    mark: Uuid,
    follows: Option<Uuid>,
}

impl<'a> Head<'a> {
    /// `mark` is that of the change, `follows` that of the one before it.
    pub(super) fn of(lease: &'a Lease, change: &Change, mark: Uuid, follows: Option<Uuid>) -> Self {
        Self {
            pipeline: lease.key.pipeline.as_str(),
            shard: lease.key.shard,
            epoch: lease.epoch.0.cast_signed(),
            token: lease.token,
            from: change.from.0,
            to: change.to.0,
            mark,
            follows,
        }
    }

    fn parameters(&self) -> Parameters<'_> {
        vec![
            &self.pipeline,
            &self.shard,
            &self.epoch,
            &self.token,
            &self.from,
            &self.to,
            &self.mark,
            &self.follows,
        ]
    }
}

/// What a change stores beside its completions.
pub(super) struct Body<'a> {
    members: Members<'a>,
    retired: Objects<'a>,
    named: Vec<Cow<'a, str>>,
}

impl<'a> Body<'a> {
    pub(super) fn of(change: &'a Change) -> Result<Self, StateError> {
        Ok(Self {
            members: Members::of(&change.members)?,
            retired: Objects::of(&change.retired),
            named: change.named.iter().map(|url| nul::without(url)).collect(),
        })
    }
}

/// What a request is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step<'a> {
    /// Begins or ends something.
    Frame,
    /// Moves the shard on.
    Advance,
    /// Stores manifests.
    Manifests,
    /// Stores other rows of the engine.
    Rows,
    /// Runs a statement of the action of that name, or checks what it left behind.
    Action(&'a str),
}

/// Requests over a connection, and what each is for.
pub(super) struct Script<'c, 'a> {
    client: &'c tokio_postgres::Client,
    prepared: &'a Prepared,
    head: &'a Head<'a>,
    pub(super) steps: Vec<Step<'a>>,
    pub(super) requests: Vec<Request<'c>>,
}

impl<'c, 'a: 'c> Script<'c, 'a> {
    pub(super) fn new(
        client: &'c tokio_postgres::Client,
        prepared: &'a Prepared,
        head: &'a Head<'a>,
    ) -> Self {
        Self { client, prepared, head, steps: Vec::new(), requests: Vec::new() }
    }

    /// Begins or ends something.
    pub(super) fn frame(&mut self, text: &'a str) {
        self.push(Step::Frame, simple(self.client, text));
    }

    /// Moves the shard on and stores what changed with it.
    pub(super) fn change(&mut self, manifests: &'a Manifests<'a>, body: &'a Body<'a>) {
        let (client, prepared, head) = (self.client, self.prepared, self.head);
        self.push(Step::Advance, execute(client, &prepared.advance, head.parameters()));
        self.manifests(manifests);
        if !body.members.is_empty() {
            let parameters = body.members.parameters(&head.pipeline);
            self.push(Step::Rows, execute(client, &prepared.members, parameters));
        }
        if !body.retired.is_empty() {
            let parameters = body.retired.parameters(&head.pipeline);
            self.push(Step::Rows, execute(client, &prepared.retire, parameters));
        }
        if !body.named.is_empty() {
            let parameters: Parameters<'a> = vec![&head.pipeline, &body.named];
            self.push(Step::Rows, execute(client, &prepared.named, parameters));
        }
    }

    /// Stores manifests, if there are any.
    pub(super) fn manifests(&mut self, manifests: &'a Manifests<'a>) {
        if manifests.is_empty() {
            return;
        }
        let parameters = manifests.parameters(&self.head.pipeline, &self.head.shard);
        self.push(Step::Manifests, execute(self.client, &self.prepared.manifests, parameters));
    }

    /// Adds deliveries, if there are any.
    pub(super) fn deliveries(&mut self, deliveries: &'a Deliveries<'a>) {
        if deliveries.is_empty() {
            return;
        }
        let parameters = deliveries.parameters(&self.head.pipeline);
        self.push(Step::Rows, execute(self.client, &self.prepared.deliveries, parameters));
    }

    /// Runs a statement of an action.
    pub(super) fn call(&mut self, call: &'a Call) {
        self.push(Step::Action(&call.action), call.request(self.client));
    }

    /// Checks at once what would otherwise be checked at the end of the transaction, where nobody
    /// knows any more whose fault it is.
    pub(super) fn check_constraints(&mut self, action: &'a str) {
        let check = simple(self.client, "SET CONSTRAINTS ALL IMMEDIATE");
        self.push(Step::Action(action), check);
    }

    fn push(&mut self, step: Step<'a>, request: Request<'c>) {
        self.steps.push(step);
        self.requests.push(request);
    }
}
