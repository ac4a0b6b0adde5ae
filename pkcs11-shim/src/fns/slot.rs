//! Slots and tokens (PKCS#11 v3.0 section 5.5).
//!
//! While the daemon is away the slots that were seen last are still there, without a token; before any was seen, slot 0.

use std::time::Duration;

use ck::Rv;
use ck::flags::slot::CKF_TOKEN_PRESENT;
use ck::flags::token::CKF_PROTECTED_AUTHENTICATION_PATH;
use ck::rv::{
    CKR_ARGUMENTS_BAD, CKR_CRYPTOKI_NOT_INITIALIZED, CKR_DEVICE_REMOVED, CKR_MECHANISM_INVALID, CKR_NO_EVENT,
    CKR_PIN_LEN_RANGE, CKR_SLOT_ID_INVALID, CKR_TOKEN_NOT_PRESENT,
};
use cryptoki_sys::{CK_MECHANISM_INFO, CK_SLOT_INFO, CK_TOKEN_INFO, CK_UNAVAILABLE_INFORMATION, CKF_DONT_BLOCK};
use hsm_proto::v1;
use hsm_proto::v1::reply::Result as Answer;
use hsm_proto::v1::request::Op;

use super::general::{MANUFACTURER, VERSION};
use crate::carrier::{Failure, lock};
use crate::ffi::claim::{InBytes, InitArgs, Out, OutList};
use crate::ffi::types::padded;
use crate::library::{Refusal, Run, expect_answer};
use crate::mirror::Mechanisms;

/// What a call about a slot answers when it gets no reply.
fn away(trouble: Result<Refusal, Failure>) -> Rv {
    match trouble {
        Ok(refusal) => refusal.rv,
        Err(Failure::Away) => CKR_TOKEN_NOT_PRESENT,
        Err(failure) => failure.of_session(),
    }
}

/// The slots as they are now; while the daemon is away the last known ones without tokens.
fn fetch(run: &Run) -> Result<Vec<v1::SlotInfo>, Rv> {
    seen(run, run.ask_daemon(Op::ListSlots(v1::ListSlotsRequest {})))
}

/// What an answer, or its absence, tells of the slots.
fn seen(run: &Run, answer: Result<Answer, Result<Refusal, Failure>>) -> Result<Vec<v1::SlotInfo>, Rv> {
    let slots = match answer {
        Ok(answer) => Ok(expect_answer!(answer, ListSlots)?.slots),
        Err(Err(Failure::Away | Failure::Broken | Failure::Expired)) => {
            let mut slots = lock(&run.slots).clone();
            if slots.is_empty() {
                slots.push(v1::SlotInfo { description: "Craton HSM (no daemon)".into(), ..Default::default() });
            }
            for slot in &mut slots {
                slot.flags &= !CKF_TOKEN_PRESENT;
                slot.token = None;
            }
            Ok(slots)
        }
        Err(trouble) => Err(away(trouble)),
    }?;
    // Sessions that go on are no reason to look at the token anew.
    let epoch = if run.keepsake.is_some() { 0 } else { run.link.epoch() };
    lock(&run.events).note(&slots, epoch);
    Ok(slots)
}

/// C_GetSlotList: asked for the length it looks afresh, asked for the list it gives what that look saw.
pub(crate) fn list(run: &Run, present: bool, out: OutList<'_>) -> Result<(), Rv> {
    let query = out.is_query()?;
    let known = lock(&run.slots).clone();
    let slots = if query || known.is_empty() {
        let slots = fetch(run)?;
        lock(&run.slots).clone_from(&slots);
        slots
    } else {
        known
    };
    let wanted = |slot: &&v1::SlotInfo| !present || slot.flags & CKF_TOKEN_PRESENT != 0;
    let ids: Vec<u64> = slots.iter().filter(wanted).map(|slot| slot.slot).collect();
    out.put(&ids)
}

/// One slot as it is now.
fn slot(run: &Run, id: u64) -> Result<v1::SlotInfo, Rv> {
    fetch(run)?.into_iter().find(|slot| slot.slot == id).ok_or(CKR_SLOT_ID_INVALID)
}

/// C_GetSlotInfo.
pub(crate) fn info(run: &Run, id: u64, info: Out<'_, CK_SLOT_INFO>) -> Result<(), Rv> {
    let place = info.there()?;
    let slot = slot(run, id)?;
    place.put(CK_SLOT_INFO {
        slotDescription: padded(&slot.description),
        manufacturerID: padded(MANUFACTURER),
        flags: slot.flags,
        hardwareVersion: VERSION,
        firmwareVersion: VERSION,
    });
    Ok(())
}

/// C_GetTokenInfo.
pub(crate) fn token_info(run: &Run, id: u64, info: Out<'_, CK_TOKEN_INFO>) -> Result<(), Rv> {
    let place = info.there()?;
    let slot = slot(run, id)?;
    let token = slot.token.filter(|_| slot.flags & CKF_TOKEN_PRESENT != 0).ok_or(CKR_TOKEN_NOT_PRESENT)?;
    place.put(CK_TOKEN_INFO {
        label: padded(&token.label),
        manufacturerID: padded(MANUFACTURER),
        model: padded(&token.model),
        serialNumber: padded(&token.serial),
        flags: token.flags,
        ulMaxSessionCount: token.max_sessions,
        ulSessionCount: token.sessions,
        ulMaxRwSessionCount: token.max_rw_sessions,
        ulRwSessionCount: token.rw_sessions,
        ulMaxPinLen: token.pin_max_len,
        ulMinPinLen: token.pin_min_len,
        ulTotalPublicMemory: CK_UNAVAILABLE_INFORMATION,
        ulFreePublicMemory: CK_UNAVAILABLE_INFORMATION,
        ulTotalPrivateMemory: CK_UNAVAILABLE_INFORMATION,
        ulFreePrivateMemory: CK_UNAVAILABLE_INFORMATION,
        hardwareVersion: VERSION,
        firmwareVersion: VERSION,
        utcTime: padded(""),
    });
    Ok(())
}

/// The mechanism table of a slot: one message per slot and run of the daemon.
pub(crate) fn mechanism_table(run: &Run, slot: u64) -> Result<Mechanisms, Rv> {
    if let Some(table) = run.mirror.mechanisms(slot) {
        return Ok(table);
    }
    let answer = run.ask_daemon(Op::Mechanisms(v1::MechanismsRequest { slot })).map_err(away)?;
    Ok(run.mirror.keep_mechanisms(slot, expect_answer!(answer, Mechanisms)?.rows))
}

/// The row of a mechanism.
pub(crate) fn find_row(table: &[v1::MechanismRow], number: u64) -> Option<&v1::MechanismRow> {
    let index = table.binary_search_by_key(&number, |row| row.r#type).ok()?;
    table.get(index)
}

/// C_GetMechanismList.
pub(crate) fn mechanisms(run: &Run, slot: u64, out: OutList<'_>) -> Result<(), Rv> {
    out.is_query()?;
    let numbers: Vec<u64> = mechanism_table(run, slot)?.iter().map(|row| row.r#type).collect();
    out.put(&numbers)
}

/// C_GetMechanismInfo.
pub(crate) fn mechanism_info(run: &Run, slot: u64, number: u64, info: Out<'_, CK_MECHANISM_INFO>) -> Result<(), Rv> {
    let place = info.there()?;
    let table = mechanism_table(run, slot)?;
    let row = find_row(&table, number).ok_or(CKR_MECHANISM_INVALID)?;
    place.put(CK_MECHANISM_INFO { ulMinKeySize: row.min_key_size, ulMaxKeySize: row.max_key_size, flags: row.flags });
    Ok(())
}

/// The longest PIN that is carried to the daemon, which says how long one may be.
const MAX_PIN: u64 = 64 * 1024;

/// A PIN, which is there.
pub(crate) fn pin(pin: InBytes<'_>, too_long: Rv) -> Result<Vec<u8>, Rv> {
    if pin.is_null() { Err(CKR_ARGUMENTS_BAD) } else { pin.at_most(MAX_PIN, too_long)?.to_vec() }
}

/// Whether the token that a session is open with lets this client's user log in without a PIN. Never asked for a PIN that is there.
pub(crate) fn has_protected_path(run: &Run, id: u64) -> Result<bool, Rv> {
    let token = slot(run, id)?.token.ok_or(CKR_DEVICE_REMOVED)?;
    Ok(token.flags & CKF_PROTECTED_AUTHENTICATION_PATH != 0)
}

/// C_InitToken. The label is padded with blanks; some callers give a C string, behind which anything may follow.
pub(crate) fn init_token(run: &Run, slot: u64, so_pin: InBytes<'_>, label: InBytes<'_>) -> Result<(), Rv> {
    let label = label.get()?.split(|&byte| byte == 0).next().unwrap_or_default();
    let label = str::from_utf8(label).map_err(|_| CKR_ARGUMENTS_BAD)?.trim_end_matches(' ').to_owned();
    let request = v1::InitTokenRequest { slot, so_pin: pin(so_pin, CKR_PIN_LEN_RANGE)?, label };
    let answer = run.ask_daemon(Op::InitToken(request)).map_err(away)?;
    run.mirror.forget_objects();
    expect_answer!(answer, Done).map(drop)
}

/// C_InitPIN.
pub(crate) fn init_pin(run: &Run, handle: u64, new: InBytes<'_>) -> Result<(), Rv> {
    let session = run.session(handle)?;
    let request = v1::InitPinRequest { session: session.daemon_handle, pin: pin(new, CKR_PIN_LEN_RANGE)? };
    run.command(&session, Op::InitPin(request))
}

/// C_SetPIN.
pub(crate) fn set_pin(run: &Run, handle: u64, old: InBytes<'_>, new: InBytes<'_>) -> Result<(), Rv> {
    let session = run.session(handle)?;
    let request = v1::SetPinRequest {
        session: session.daemon_handle,
        old_pin: pin(old, CKR_PIN_LEN_RANGE)?,
        new_pin: pin(new, CKR_PIN_LEN_RANGE)?,
    };
    let keepsake = run.keepsake.as_ref().filter(|keepsake| keepsake.holds(session.slot));
    let copy = keepsake.and_then(|keepsake| keepsake.copy(&request.new_pin));
    run.command(&session, Op::SetPin(request))?;
    if let Some(keepsake) = keepsake {
        keepsake.remember(session.slot, copy);
    }
    Ok(())
}

/// How often a blocked C_WaitForSlotEvent looks.
const LOOK: Duration = Duration::from_millis(500);

/// C_WaitForSlotEvent: the daemon's going and coming. Who waits looks now and then, until C_Finalize.
pub(crate) fn wait_for_event(run: &Run, flags: u64, slot: Out<'_, u64>, reserved: InitArgs<'_>) -> Result<(), Rv> {
    let place = slot.there()?;
    if !reserved.is_null() {
        return Err(CKR_ARGUMENTS_BAD);
    }
    loop {
        seen(run, run.look(Op::ListSlots(v1::ListSlotsRequest {})))?;
        if let Some(slot) = lock(&run.events).next() {
            place.put(slot);
            return Ok(());
        }
        if flags & CKF_DONT_BLOCK != 0 {
            return Err(CKR_NO_EVENT);
        }
        if run.wait_for_finalize(LOOK) {
            return Err(CKR_CRYPTOKI_NOT_INITIALIZED);
        }
    }
}
