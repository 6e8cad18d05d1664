//! What past decisions about a patient stood on, for the custodian's officer, who hands it to an auditor.

use assent_proto::v1::{Answer, OpenDecisionsRequest, OpenDecisionsResponse};
use futures::stream::{self, BoxStream, StreamExt};
use tonic::Status;

use crate::grpc::{answer, Api};
use crate::refusal::Refusal;

/// Bytes in a message.
const CHUNK_BYTES: usize = 256 << 10;

impl Api {
    pub(in crate::grpc) async fn open_decisions_for(
        &self,
        body: OpenDecisionsRequest,
    ) -> Result<BoxStream<'static, Result<OpenDecisionsResponse, Status>>, Refusal> {
        let patient = self.own_patient(body.patient)?;
        let (tip, bytes) = self.app.custodian.open_decisions(&patient, !body.omit_records).await?;
        Ok(stream::iter(chunks(answer::at(&tip), bytes)).map(Ok).boxed())
    }
}

/// Cut as the client takes them.
fn chunks(answer: Answer, bytes: Vec<u8>) -> impl Iterator<Item = OpenDecisionsResponse> {
    let (mut answer, mut sent) = (Some(answer), 0);
    std::iter::from_fn(move || {
        let chunk = bytes.get(sent..bytes.len().min(sent + CHUNK_BYTES))?;
        sent += chunk.len();
        (!chunk.is_empty()).then(|| OpenDecisionsResponse { answer: answer.take(), chunk: chunk.to_vec() })
    })
}
