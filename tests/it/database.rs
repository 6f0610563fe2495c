//! A Postgres database of a test's own.
//!
//! Responsible for: making it, and asking it questions whose answers are text.
//! Not responsible for: the server, which `scripts/test` or the test itself has started.

use std::cell::Cell;
use std::pin::pin;

use futures_util::StreamExt;
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{Client, Error, NoTls, SimpleQueryMessage};

/// Address of the test server's database `postgres`.
///
/// # Panics
/// Without one: the test cannot prove anything.
pub fn server() -> String {
    std::env::var("TIDEMILL_TEST_POSTGRES").expect(
        "TIDEMILL_TEST_POSTGRES is not set: run the tests through scripts/test, which starts \
         Postgres",
    )
}

/// A database.
pub struct Database {
    url: String,
    /// Kept for the next question, as long as it works.
    client: Cell<Option<Client>>,
    runtime: Runtime,
}

/// A transaction that stays open until it is dropped.
pub struct Held {
    _client: Client,
    /// Its connection closes with it, and the server rolls back.
    _runtime: Runtime,
}

impl Database {
    /// Makes a database of that name on the server whose database `postgres` is at `server`.
    pub fn create(server: &str, name: &str) -> Self {
        Self::at(server).execute(&format!("CREATE DATABASE \"{name}\"")).expect("a new database");
        let (base, _) = server.rsplit_once('/').expect("an address that ends with its database");
        Self::at(&format!("{base}/{name}"))
    }

    fn at(url: &str) -> Self {
        Self { url: url.to_owned(), client: Cell::default(), runtime: runtime() }
    }

    /// Its address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Runs statements.
    ///
    /// # Errors
    /// The server is away, or refuses them.
    pub fn execute(&self, statements: &str) -> Result<(), Error> {
        self.ask(async |client| client.batch_execute(statements).await)
    }

    /// The rows of a query; null is an empty text.
    ///
    /// # Errors
    /// The server is away, or refuses the query.
    pub fn rows(&self, query: &str) -> Result<Vec<Vec<String>>, Error> {
        let answers = self.ask(async |client| client.simple_query(query).await)?;
        let rows = answers.iter().filter_map(|answer| match answer {
            SimpleQueryMessage::Row(row) => {
                let cells = (0..row.len()).map(|cell| row.get(cell).unwrap_or_default());
                Some(cells.map(str::to_owned).collect())
            }
            _ => None,
        });
        Ok(rows.collect())
    }

    fn ask<T>(&self, question: impl AsyncFn(&Client) -> Result<T, Error>) -> Result<T, Error> {
        self.runtime.block_on(async {
            let client = match self.client.take() {
                Some(client) if !client.is_closed() => client,
                _ => connect(&self.url).await?,
            };
            let answer = question(&client).await;
            if answer.is_ok() {
                self.client.set(Some(client));
            }
            answer
        })
    }

    /// The number that a query gives; `None` if the server is away or refuses the query.
    pub fn number(&self, query: &str) -> Option<i64> {
        self.rows(query).ok()?.first()?.first()?.parse().ok()
    }

    /// The rows of a query as CSV, with a header.
    pub fn csv(&self, query: &str) -> String {
        let copy = format!("COPY ({query}) TO STDOUT WITH (FORMAT csv, HEADER)");
        let copied: Result<Vec<u8>, Error> = self.runtime.block_on(async {
            let client = connect(&self.url).await?;
            let mut pieces = pin!(client.copy_out(copy.as_str()).await?);
            let mut text = Vec::new();
            while let Some(piece) = pieces.next().await {
                text.extend_from_slice(&piece?);
            }
            Ok(text)
        });
        String::from_utf8(copied.expect("the rows of a query")).expect("text")
    }

    /// Begins a transaction with these statements, and keeps it open.
    pub fn hold(&self, statements: &str) -> Held {
        let runtime = runtime();
        let began: Result<Client, Error> = runtime.block_on(async {
            let client = connect(&self.url).await?;
            client.batch_execute(&format!("BEGIN; {statements}")).await?;
            Ok(client)
        });
        Held { _client: began.expect("a transaction"), _runtime: runtime }
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

async fn connect(url: &str) -> Result<Client, Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    // It ends with the client.
    tokio::spawn(connection);
    Ok(client)
}
