//! The service `Token`: every rpc is the operation of the same name, wrapped into a request and dispatched.

use std::sync::Arc;

use hsm_proto::v1;
use hsm_proto::v1::reply::Result as Outcome;
use hsm_proto::v1::request::Op;
use hsm_proto::v1::token_server::Token;
use tonic::{Request, Response, Status};

use super::{Visitor, defect, on_the_pool, visitor};
use crate::dispatch::{Desk, Seat, is_long};
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

    /// Dispatches one operation for the application that the metadata name.
    async fn reply<T>(&self, request: Request<T>, asked: impl FnOnce(T) -> v1::Request) -> Result<v1::Reply, Status> {
        let visitor = visitor(&request)?;
        let application = request.metadata().get_bin(APPLICATION).and_then(|value| value.to_bytes().ok());
        let parent = request.metadata().get(HEADER).and_then(|text| Parent::parse(text.to_str().ok()?));
        let asked = asked(request.into_inner());
        let caller = application.and_then(|name| visitor.caller(&name));
        let mut seat = Seat { peer: visitor.peer().clone(), caller, parent };
        let long = asked.op.as_ref().is_some_and(is_long);
        let desk = Arc::clone(&self.desk);
        let work = move || {
            let reply = desk.dispatch(&mut seat, asked);
            keep(&visitor, &reply, seat);
            reply
        };
        if long { on_the_pool(work).await } else { Ok(work()) }
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
