//! What is remembered of clients that gave wrong PINs, so that a restart gives nobody new guesses (`format.md` sections 2 and 5).

use prost::Message;

use super::commit::Work;
use super::device;
use super::layout::{self, CLIENT_PREFIX, ClientRow, Table};
use super::ledger::Ledger;
use super::seal::SealError;
use super::vault::{Vault, broken_row};
use super::verify::NO_TOKEN;
use crate::error::Result;
use crate::id::TokenId;
use crate::token::pin::Conduct;

impl<L: Ledger> Vault<L> {
    fn client_row(&self, client: &str, token: TokenId) -> Vec<u8> {
        layout::client_key(token, &self.keys.client_name(client))
    }

    /// How a client stands, in the same change as the attempt that is counted.
    pub(super) fn put_conduct(&self, work: &mut Work, client: &str, token: TokenId, conduct: Conduct) -> Result<()> {
        let Conduct { failed, blocks, blocked_until_ns, blocked_until_up_ns, seen_ns } = conduct;
        let client_row =
            ClientRow { client: client.to_owned(), failed, blocks, blocked_until_ns, seen_ns, blocked_until_up_ns };
        let body = client_row.encode_to_vec();
        let row = self.client_row(client, token);
        work.batch.put(Table::Reserved, &row, self.seal_own(Table::Reserved, NO_TOKEN, &row, &body)?);
        Ok(())
    }

    /// The client's PIN was right.
    pub(super) fn forgive(&self, work: &mut Work, client: &str, token: TokenId) {
        work.batch.delete(Table::Reserved, &self.client_row(client, token));
    }

    /// Remembers in memory what is durable. Who is forgotten for it, because there are too many, is forgotten in the store as well.
    pub(super) fn remember(&self, client: &str, token: TokenId, conduct: Conduct) {
        let Some((client, token)) = self.clients.remember(client, token, conduct) else { return };
        let mut work = Work::default();
        self.forgive(&mut work, &client, token);
        if let Err(error) = self.pen.write_unrecorded(work) {
            tracing::warn!(%error, "a client that was forgotten is remembered again after the next start");
        }
    }

    /// What earlier runs remembered.
    pub(super) fn recall_clients(&self) -> Result<()> {
        let mut rows = Vec::new();
        let mut visit = |key: &[u8], _: &[u8]| {
            rows.push(key.to_vec());
            Ok(())
        };
        self.snapshot()?.scan(Table::Reserved, CLIENT_PREFIX, &mut visit).map_err(|error| device(&error))?;
        for row in rows {
            let broken = || broken_row(Table::Reserved, &row, SealError::NotARecord);
            let token = row.get(CLIENT_PREFIX.len()..).and_then(|rest| rest.first_chunk()).ok_or_else(broken)?;
            let Some(body) = self.open_row(Table::Reserved, &row)? else { continue };
            let ClientRow { client, failed, blocks, blocked_until_ns, seen_ns, blocked_until_up_ns } =
                ClientRow::decode(body.expose()).map_err(|_| broken())?;
            let conduct = Conduct { failed, blocks, blocked_until_ns, blocked_until_up_ns, seen_ns };
            self.clients.recall(&client, TokenId(*token), conduct);
        }
        Ok(())
    }
}
