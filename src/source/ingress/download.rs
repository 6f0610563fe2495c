//! GET: hands out a payload.
//!
//! Responsible for: streaming the file, or the object of a shared spool, in bounded memory.
//! Not responsible for: who may ask. An id cannot be guessed, and the ingress listens on loopback
//! unless its operator says otherwise.

use std::fs::File as StdFile;
use std::io;

use actix_web::body::SizedStream;
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use futures_util::stream::try_unfold;
use tokio::fs::File;
use tokio::io::AsyncReadExt;

use crate::source::ingress::answer::Refusal;
use crate::source::ingress::spool::{self, blocking};
use crate::source::ingress::storage::Payload;
use crate::source::ingress::upload::Endpoint;
use crate::spool::objects::{ObjectReader, RootError};

/// Bytes of a file that are read and sent at once.
const PIECE: u64 = 64 << 10;

/// What is handed out, and its length.
enum Opened {
    File(StdFile, u64),
    Object(ObjectReader),
}

/// Handles GET.
pub(super) async fn download(endpoint: web::Data<Endpoint>, id: web::Path<String>) -> HttpResponse {
    let mut answer = HttpResponse::Ok();
    answer.content_type("application/octet-stream");
    match open(&endpoint, &id).await {
        Ok(Opened::File(file, len)) => answer.body(SizedStream::new(len, pieces(file, len))),
        Ok(Opened::Object(object)) => {
            answer.body(SizedStream::new(object.bytes(), pieces_of(object)))
        }
        Err(refusal) => refusal.answer(),
    }
}

async fn open(endpoint: &Endpoint, id: &str) -> Result<Opened, Refusal> {
    let unknown = || Refusal::new(StatusCode::NOT_FOUND, "there is no payload with this id");
    let id = spool::parse(id).ok_or_else(unknown)?;
    let opened = async {
        match endpoint.payloads.payload(id).await? {
            Payload::File(file) => {
                blocking(move || {
                    let len = file.metadata()?.len();
                    Ok(Opened::File(file, len))
                })
                .await
            }
            Payload::Object(object) => Ok(Opened::Object(object)),
        }
    };
    opened.await.map_err(|error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => unknown(),
        _ => {
            let ingress = endpoint.payloads.name();
            tracing::error!(%ingress, %id, %error, "cannot read a payload");
            Refusal::unavailable("the payload cannot be read at the moment, try again later")
        }
    })
}

fn pieces_of(object: ObjectReader) -> impl Stream<Item = Result<Bytes, RootError>> {
    try_unfold(
        object,
        |mut object| async move { Ok(object.next().await?.map(|piece| (piece, object))) },
    )
}

fn pieces(file: StdFile, len: u64) -> impl Stream<Item = io::Result<Bytes>> {
    try_unfold((File::from_std(file), len), |(mut file, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let mut piece = BytesMut::with_capacity(left.min(PIECE) as usize);
        let count = file.read_buf(&mut piece).await? as u64;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Some((piece.freeze(), (file, left.saturating_sub(count)))))
    })
}
