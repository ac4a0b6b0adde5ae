//! The service `Token`: every rpc is the operation of the same name, wrapped into a request and dispatched.

use std::sync::Arc;

use hsm_core::SecretRefused;
use hsm_proto::v1;
use hsm_proto::v1::reply::Result as Outcome;
use hsm_proto::v1::request::Op;
use hsm_proto::v1::token_server::Token;
use prost::bytes::Bytes;
use tonic::{Request, Response, Status};

use super::{Visitor, defect, too_plain, visitor};
use crate::convert::Refusal;
use crate::dispatch::{Desk, Seat, is_long};
use crate::seal::{Opened, ReplySeal};
use crate::telemetry::{HEADER, Parent};

/// The metadata key with the 16 bytes that Attach returned.
const APPLICATION: &str = "craton-application-bin";

/// The token's gRPC service.
#[derive(Clone)]
pub(crate) struct TokenService {
    desk: Arc<Desk>,
}

impl TokenService {
    /// The service of this desk.
    pub(crate) fn new(desk: Arc<Desk>) -> Self {
        TokenService { desk }
    }

    /// Dispatches one operation that travelled plainly.
    async fn reply<T>(&self, request: Request<T>, asked: impl FnOnce(T) -> v1::Request) -> Result<v1::Reply, Status> {
        let call = Call::of(&request)?;
        let asked = asked(request.into_inner());
        self.answer(call, asked, Cover { request: false, reply: false }).await
    }

    /// Dispatches one operation that may be sealed, or whose reply is to be.
    async fn sealed_reply(&self, request: Request<v1::SealedExchange>) -> Result<v1::SealedReply, Status> {
        let call = Call::of(&request)?;
        let (reply, seal) = match call.visitor.seal_keys().exchange(request.into_inner()) {
            Ok(Opened { request, was_sealed, reply }) => {
                let cover = Cover { request: was_sealed, reply: reply.is_some() };
                (self.answer(call, request, cover).await?, reply)
            }
            Err(refusal) => {
                let (peer, nothing) = (call.visitor.peer(), v1::Request::default());
                (self.desk.refuse_secret(peer, &nothing, SecretRefused::Seal, refusal), None)
            }
        };
        ReplySeal::close(seal, reply).map_err(|Refusal(fault)| fault.into())
    }

    /// Dispatches one operation for the application that the call names.
    async fn answer(&self, call: Call, asked: v1::Request, cover: Cover) -> Result<v1::Reply, Status> {
        if !self.desk.plain_secrets && asked.op.as_ref().is_some_and(|op| cover.lacks(op)) {
            return Ok(self.desk.refuse_secret(call.visitor.peer(), &asked, SecretRefused::Plain, too_plain()));
        }
        let Call { visitor, application, parent } = call;
        if matches!(asked.op, Some(Op::Attach(_))) && visitor.is_full() {
            let sentence = "too many applications have attached through this connection";
            return Ok(self.desk.refuse(&asked, Refusal::new(ck::rv::CKR_DEVICE_MEMORY, sentence)));
        }
        let caller = application.and_then(|name| visitor.caller(&name));
        let mut seat = Seat { peer: visitor.peer().clone(), caller, parent };
        let long = asked.op.as_ref().is_some_and(is_long);
        let (desk, connection) = (Arc::clone(&self.desk), visitor.clone());
        let work = move || {
            let reply = desk.dispatch(&mut seat, asked);
            hsm_core::failpoint!("reply.grpc.before");
            keep(&connection, &reply, seat);
            reply
        };
        if long { visitor.on_the_pool(work).await } else { Ok(work()) }
    }

    /// The operation's own result, or its fault as a status.
    async fn result<T>(&self, request: Request<T>, op: impl FnOnce(T) -> Op) -> Result<Outcome, Status> {
        match self.reply(request, |inner| v1::Request { op: Some(op(inner)), number: 0 }).await?.result {
            Some(Outcome::Fault(fault)) => Err(fault.into()),
            Some(outcome) => Ok(outcome),
            None => Err(defect("a reply has no result")),
        }
    }
}

/// Where a request came from.
struct Call {
    visitor: Visitor,
    application: Option<Bytes>,
    parent: Option<Parent>,
}

impl Call {
    fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        let metadata = request.metadata();
        Ok(Call {
            visitor: visitor(request)?,
            application: metadata.get_bin(APPLICATION).and_then(|value| value.to_bytes().ok()),
            parent: metadata.get(HEADER).and_then(|text| Parent::parse(text.to_str().ok()?)),
        })
    }
}

/// What of an exchange is sealed.
struct Cover {
    request: bool,
    reply: bool,
}

impl Cover {
    /// Whether a secret of this operation's is not.
    fn lacks(&self, op: &Op) -> bool {
        (!self.request && op.carries_secret()) || (!self.reply && op.gives_secret())
    }
}

/// A fresh attachment stays with the connection.
fn keep(visitor: &Visitor, reply: &v1::Reply, seat: Seat) {
    if let (Some(Outcome::Attach(_)), Some(caller)) = (&reply.result, seat.caller) {
        visitor.seat(caller);
    }
}

/// One line per rpc: the method, its request, the operation, the result's variant, its message.
macro_rules! rpcs {
    ($($method:ident($request:ident) = $op:ident => $outcome:ident($reply:ident);)*) => {
        #[tonic::async_trait]
        impl Token for TokenService {
            async fn exchange(&self, request: Request<v1::Request>) -> Result<Response<v1::Reply>, Status> {
                self.reply(request, |inner| inner).await.map(Response::new)
            }

            async fn seal_key(&self, request: Request<v1::SealKeyRequest>) -> Result<Response<v1::SealKeyReply>, Status> {
                visitor(&request)?.seal_keys().give().map(Response::new).map_err(|Refusal(fault)| fault.into())
            }

            async fn sealed(&self, request: Request<v1::SealedExchange>) -> Result<Response<v1::SealedReply>, Status> {
                self.sealed_reply(request).await.map(Response::new)
            }

            $(
                async fn $method(&self, request: Request<v1::$request>) -> Result<Response<v1::$reply>, Status> {
                    match self.result(request, Op::$op).await? {
                        Outcome::$outcome(reply) => Ok(Response::new(reply)),
                        _ => Err(defect(concat!(stringify!($op), " answered with another operation's result"))),
                    }
                }
            )*
        }
    };
}

rpcs! {
    attach(AttachRequest) = Attach => Attach(AttachReply);
    list_slots(ListSlotsRequest) = ListSlots => ListSlots(ListSlotsReply);
    mechanisms(MechanismsRequest) = Mechanisms => Mechanisms(MechanismsReply);
    init_token(InitTokenRequest) = InitToken => Done(Empty);
    init_pin(InitPinRequest) = InitPin => Done(Empty);
    set_pin(SetPinRequest) = SetPin => Done(Empty);
    open_session(OpenSessionRequest) = OpenSession => OpenSession(OpenSessionReply);
    close_session(SessionRequest) = CloseSession => Done(Empty);
    close_all_sessions(SlotRequest) = CloseAllSessions => Done(Empty);
    session_info(SessionRequest) = SessionInfo => SessionInfo(SessionInfoReply);
    login(LoginRequest) = Login => Done(Empty);
    logout(SessionRequest) = Logout => Done(Empty);
    create_object(CreateObjectRequest) = CreateObject => Object(ObjectReply);
    copy_object(CopyObjectRequest) = CopyObject => Object(ObjectReply);
    destroy_object(ObjectRequest) = DestroyObject => Done(Empty);
    object_size(ObjectRequest) = ObjectSize => ObjectSize(ObjectSizeReply);
    get_attributes(GetAttributesRequest) = GetAttributes => GetAttributes(GetAttributesReply);
    set_attributes(SetAttributesRequest) = SetAttributes => Done(Empty);
    find(FindRequest) = Find => Find(FindReply);
    snapshot(ObjectRequest) = Snapshot => Snapshot(ObjectSnapshot);
    one_shot(OneShotRequest) = OneShot => Output(OutputReply);
    update(UpdateRequest) = Update => Output(OutputReply);
    r#final(FinalRequest) = Final => Output(OutputReply);
    digest_key(DigestKeyRequest) = DigestKey => Done(Empty);
    cancel(CancelRequest) = Cancel => Done(Empty);
    check(CheckRequest) = Check => Done(Empty);
    random(RandomRequest) = Random => Random(RandomReply);
    seed_random(SeedRandomRequest) = SeedRandom => Done(Empty);
    generate_key(GenerateKeyRequest) = GenerateKey => Object(ObjectReply);
    generate_key_pair(GenerateKeyPairRequest) = GenerateKeyPair => KeyPair(KeyPairReply);
    wrap_key(WrapKeyRequest) = WrapKey => Output(OutputReply);
    unwrap_key(UnwrapKeyRequest) = UnwrapKey => Object(ObjectReply);
    derive_key(DeriveKeyRequest) = DeriveKey => Derived(DeriveKeyReply);
    encapsulate_key(EncapsulateKeyRequest) = EncapsulateKey => Encapsulated(EncapsulateKeyReply);
    decapsulate_key(DecapsulateKeyRequest) = DecapsulateKey => Object(ObjectReply);
    resume_session(ResumeSessionRequest) = ResumeSession => OpenSession(OpenSessionReply);
    outcome(OutcomeRequest) = Outcome => Outcome(OutcomeReply);
    message(MessageRequest) = Message => Message(MessageReply);
    save_state(SaveStateRequest) = SaveState => SavedState(SavedStateReply);
    restore_state(RestoreStateRequest) = RestoreState => RestoredState(RestoredStateReply);
    wrap_authenticated(WrapAuthenticatedRequest) = WrapAuthenticated => Message(MessageReply);
    unwrap_authenticated(UnwrapAuthenticatedRequest) = UnwrapAuthenticated => Object(ObjectReply);
}
