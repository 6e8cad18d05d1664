//! The ledger for those who trust nobody: the whole chain as an export file, and single blocks.

use assent_ledger::audit::{write_record, RecordKind, EXPORT_MAGIC};
use assent_proto::ledger::v1::Block;
use assent_proto::v1::audit_service_server::AuditService;
use assent_proto::v1::{
    Answer, ExportLedgerRequest, ExportLedgerResponse, GetBlockRequest, GetBlockResponse,
};
use futures::stream::{self, BoxStream, StreamExt};
use prost::Message;
use tonic::{Request, Response, Status};

use super::{answer, border, error, Api};
use crate::chain::Store;
use crate::custodian::blocking;
use crate::order::Fatal;
use crate::refusal::{Kind, Refusal};

/// Bytes in a message of an export; records are cut wherever it is full.
const CHUNK_BYTES: usize = 256 << 10;

/// An export under way. Blocks and the tip's certificate never change once they are committed, save that a block may be pruned, so
/// the height that is fixed at the start is all that a consistent export needs: no snapshot is held while a slow client reads.
struct Export {
    store: Store,
    tip: u64,
    next: u64,
    /// Bytes that are not sent yet, starting at `sent`.
    buffer: Vec<u8>,
    answer: Option<Answer>,
    sealed: bool,
}

impl Export {
    fn new(store: Store, genesis_file: &[u8]) -> Result<Self, Fatal> {
        let tip = store.tip()?;
        let mut buffer = EXPORT_MAGIC.to_vec();
        write_record(&mut buffer, RecordKind::Genesis, genesis_file);
        Ok(Self { store, tip: tip.height, next: 1, buffer, answer: Some(answer::at(&tip)), sealed: false })
    }

    fn read_record(&mut self) -> Result<(), Fatal> {
        let missing = |what: &str, height| Fatal::Corrupt(format!("{what} of height {height} is missing"));
        if self.next <= self.tip {
            let header = match self.store.block(self.next)? {
                Some(block) => {
                    write_record(&mut self.buffer, RecordKind::Block, &block);
                    Block::decode(block.as_slice()).map(|block| block.header).unwrap_or_default()
                }
                None => {
                    let pruned = self.store.view()?.pruned(self.next)?;
                    let pruned = pruned.ok_or_else(|| missing("block", self.next))?;
                    write_record(&mut self.buffer, RecordKind::Pruned, &pruned.encode_to_vec());
                    pruned.header
                }
            };
            if let Some(set) = self.store.validators_after(&header)? {
                write_record(&mut self.buffer, RecordKind::ValidatorSet, &set);
            }
            self.next += 1;
            return Ok(());
        }
        if self.tip > 0 {
            let certificate =
                self.store.certificate(self.tip)?.ok_or_else(|| missing("certificate", self.tip))?;
            write_record(&mut self.buffer, RecordKind::Certificate, &certificate);
        }
        self.sealed = true;
        Ok(())
    }

    /// The next message; none at the end.
    fn chunk(&mut self) -> Result<Option<ExportLedgerResponse>, Fatal> {
        while !self.sealed && self.buffer.len() < CHUNK_BYTES {
            self.read_record()?;
        }
        if self.buffer.is_empty() {
            return Ok(None);
        }
        let rest = self.buffer.split_off(self.buffer.len().min(CHUNK_BYTES));
        let chunk = std::mem::replace(&mut self.buffer, rest);
        Ok(Some(ExportLedgerResponse { answer: self.answer.take(), chunk }))
    }

    /// Messages as the client takes them. After a failure the stream ends with its status.
    fn into_stream(self) -> BoxStream<'static, Result<ExportLedgerResponse, Status>> {
        stream::unfold(Some(self), |export| async move {
            let mut export = export?;
            match blocking(|| export.chunk()) {
                Ok(Some(message)) => Some((Ok(message), Some(export))),
                Ok(None) => None,
                Err(fatal) => Some((Err(error::status(fatal.into())), None)),
            }
        })
        .boxed()
    }
}

impl Api {
    fn block(&self, height: u64) -> Result<GetBlockResponse, Refusal> {
        if height == 0 {
            return Err(border::malformed("height", "0, blocks are numbered from 1"));
        }
        let view = self.app.parts.store.view()?;
        let committed = view.committed(height)?;
        if committed.is_none() && height <= view.tip.height {
            return Err(Refusal::pruned(height, view.whole_from()?));
        }
        let committed = committed.ok_or_else(|| {
            let message = format!("no block {height} yet, the newest is {}", view.tip.height);
            Refusal::new(Kind::NotFound, "NO_SUCH_BLOCK", message).with("height", view.tip.height)
        })?;
        Ok(GetBlockResponse {
            answer: Some(answer::at(&view.tip)),
            block: committed.block_bytes,
            certificate: committed.certificate.encode_to_vec(),
        })
    }
}

#[tonic::async_trait]
impl AuditService for Api {
    type ExportLedgerStream = BoxStream<'static, Result<ExportLedgerResponse, Status>>;

    async fn export_ledger(
        &self,
        request: Request<ExportLedgerRequest>,
    ) -> Result<Response<Self::ExportLedgerStream>, Status> {
        let work = |api: Self, _, _| async move {
            let parts = &api.app.parts;
            let export = blocking(|| Export::new(parts.store.clone(), &parts.genesis_file))?;
            Ok(export.into_stream())
        };
        self.call("AuditService/ExportLedger", request, work).await
    }

    async fn get_block(
        &self,
        request: Request<GetBlockRequest>,
    ) -> Result<Response<GetBlockResponse>, Status> {
        let work = |api: Self, _, body: GetBlockRequest| async move { blocking(|| api.block(body.height)) };
        self.call("AuditService/GetBlock", request, work).await
    }
}
