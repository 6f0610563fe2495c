//! One more attempt at a member, compared with what is known of it.
//!
//! Responsible for: which of two attempts wins, and what is retired.
//! Not responsible for: what follows for the manifest (`manifest`).

use super::{Member, MemberHash, Retire};
use crate::model::event::{MemberState, Settled};

/// What another attempt at a member is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Attempt {
    /// Nothing had settled it.
    First,
    /// It ended better than what is known.
    Better,
    /// It says nothing new.
    Duplicate,
    /// It ended no better, with other content.
    Conflict,
}

impl Attempt {
    /// What the attempt of `event` is, where `known` is known of the member.
    pub(super) fn of(event: &Settled, known: Option<&Member>) -> Self {
        let Some((known, accepted)) = known.and_then(|known| Some((known, known.digest?))) else {
            return Self::First;
        };
        if event.state > known.state {
            Self::Better
        } else if event.digest == accepted || event.state == MemberState::DeadLettered {
            Self::Duplicate
        } else {
            Self::Conflict
        }
    }

    /// The attempt that lost against another one, once the member is done and its digest final.
    pub(super) fn loser(
        self,
        event: &Settled,
        known: Option<Member>,
        hash: MemberHash,
    ) -> Option<Retire> {
        let known = known?;
        let accepted = known.digest?;
        let digest = match self {
            Self::Better if event.state == MemberState::Done => accepted,
            Self::Duplicate | Self::Conflict if known.state == MemberState::Done => event.digest,
            _ => return None,
        };
        (event.digest != accepted).then_some(Retire { member: hash, digest })
    }
}
