//! The one engine that applies the attribute table: create, generate, unwrap, derive, copy and set all pass here.
//!
//! It knows footnotes, not algorithms. Facts that no template may carry (CKA_LOCAL, CKA_ALWAYS_SENSITIVE, CKA_NEVER_EXTRACTABLE,
//! CKA_KEY_GEN_MECHANISM, CKA_UNIQUE_ID) are computed here, once (PKCS#11 v3.0 §4.7 to §4.10).

use ck::attribute::*;
use ck::object::*;
use ck::{Attribute, KeyType, Mechanism, ObjectClass};

use super::schema::{self, *};
use super::{Attr, Attributes, Object, Value, built_in, certificate};
use crate::config::{PolicyConfig, Profile};
use crate::error::{Error, Kind, Result};
use crate::issuance;
use crate::mechanism::period;

/// The function that makes an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Origin {
    /// C_CreateObject.
    Create,
    /// C_GenerateKey and C_GenerateKeyPair.
    Generate,
    /// C_UnwrapKey.
    Unwrap,
    /// C_DeriveKey.
    Derive,
}

/// On whose word a template is taken: only the SO may set CKA_TRUSTED, and policy may open or close more.
#[derive(Clone, Copy)]
pub(crate) struct Authority<'a> {
    /// Whether the SO is logged in.
    pub(crate) so: bool,
    /// The policy in force.
    pub(crate) policy: &'a PolicyConfig,
}

impl Authority<'_> {
    fn may_trust(self, row: &Row, value: &Value) -> bool {
        self.so || !row.notes.has(F10_SO_ONLY) || *value != Value::Bool(true)
    }

    fn is_strict(self) -> bool {
        self.policy.profile == Profile::Strict
    }
}

/// Where a key's secret came from; decides the history attributes.
pub(crate) enum Heritage {
    /// Made in the token by this mechanism.
    Generated(Mechanism),
    /// Made in the token by this mechanism, of something that is known outside: a password.
    Recreated(Mechanism),
    /// Came from outside in the clear, or wrapped: its past is unknown.
    Imported,
    /// Computed from a key of the token.
    Derived {
        /// CKA_ALWAYS_SENSITIVE of the base key.
        always_sensitive: bool,
        /// CKA_NEVER_EXTRACTABLE of the base key.
        never_extractable: bool,
    },
}

/// CK_UNAVAILABLE_INFORMATION (PKCS#11 v3.0 §3.6): the value of CKA_KEY_GEN_MECHANISM when the key was not generated here.
const UNAVAILABLE: u64 = u64::MAX;

/// A template's CKA_CLASS and CKA_KEY_TYPE, where given.
pub(crate) fn kind_of(template: &[Attr]) -> (Option<ObjectClass>, Option<KeyType>) {
    let number = |kind| template.iter().find(|attr| attr.kind == kind).and_then(|attr| attr.value.as_ulong());
    (number(CKA_CLASS).map(ObjectClass), number(CKA_KEY_TYPE).map(KeyType))
}

/// Checks a template against the table and fills in the defaults. The result still holds the secret attributes that C_CreateObject
/// was given; `import.rs` takes them out.
///
/// # Errors
/// One of the template errors of PKCS#11 v3.0 §4.1.1, naming the attribute.
pub(crate) fn build(
    origin: Origin,
    class: ObjectClass,
    key_type: Option<KeyType>,
    template: Vec<Attr>,
    authority: Authority<'_>,
) -> Result<Attributes> {
    let unknown = || match class {
        CKO_DATA | CKO_CERTIFICATE | CKO_PUBLIC_KEY | CKO_PRIVATE_KEY | CKO_SECRET_KEY => {
            Error::new(Kind::AttributeValue, format!("{class} with key type {key_type:?} is not offered"))
        }
        _ => Error::new(Kind::AttributeValue, format!("objects of class {class} cannot be made")),
    };
    let schema = schema::rows(class, key_type).filter(|_| !built_in::has_class(class)).ok_or_else(unknown)?;
    let mut attributes = Attributes::default();
    for attr in template {
        admit(origin, &schema, &attr, authority)?;
        if attributes.get(attr.kind).is_some_and(|earlier| *earlier != attr.value.clone().normalized()) {
            return Err(named(Kind::TemplateInconsistent, attr.kind, "is given twice with different values"));
        }
        attributes.put(attr.kind, attr.value);
    }
    demand(&attributes, CKA_CLASS, class.0)?;
    if let Some(key_type) = key_type {
        demand(&attributes, CKA_KEY_TYPE, key_type.0)?;
        attributes.put(CKA_KEY_TYPE, Value::Ulong(key_type.0));
    }
    attributes.put(CKA_CLASS, Value::Ulong(class.0));
    require(origin, &schema, &attributes)?;
    period::check_order(&attributes)?;
    if class == CKO_CERTIFICATE {
        certificate::complete(&mut attributes)?;
    }
    if attributes.get(CKA_CRATON_ISSUANCE_POLICY).is_some() {
        guard(&schema, &mut attributes)?;
    }
    fill_defaults(&schema, &mut attributes, authority);
    check_authentication(&attributes)?;
    if authority.is_strict() {
        check_roles(&attributes)?;
        check_purpose(&attributes)?;
    }
    Ok(attributes)
}

/// What a key with an issuance policy is, whatever a template leaves out: it lives in the token, never leaves it, has no twin without the
/// count, and does nothing but sign.
const GUARDED: [(Attribute, bool); 11] = [
    (CKA_TOKEN, true),
    (CKA_PRIVATE, true),
    (CKA_SENSITIVE, true),
    (CKA_EXTRACTABLE, false),
    (CKA_COPYABLE, false),
    (CKA_SIGN, true),
    (CKA_SIGN_RECOVER, false),
    (CKA_DECRYPT, false),
    (CKA_UNWRAP, false),
    (CKA_DERIVE, false),
    (CKA_DECAPSULATE, false),
];

/// Checks an issuance policy and what goes with it; a template may repeat what follows from it, not contradict it.
fn guard(schema: &Schema, attributes: &mut Attributes) -> Result<()> {
    if !matches!(attributes.key_type(), Some(CKK_RSA | CKK_EC | CKK_EC_EDWARDS | CKK_ML_DSA)) {
        return Err(named(Kind::TemplateInconsistent, CKA_CRATON_ISSUANCE_POLICY, "does not go with the key type"));
    }
    issuance::Policy::read(attributes.bytes(CKA_CRATON_ISSUANCE_POLICY))
        .map_err(|breach| Error::new(Kind::AttributeValue, format!("{CKA_CRATON_ISSUANCE_POLICY}: {breach}")))?;
    for (kind, value) in GUARDED {
        let value = Value::Bool(value);
        match attributes.get(kind) {
            Some(given) if *given != value => {
                return Err(named(Kind::TemplateInconsistent, kind, "contradicts CKA_CRATON_ISSUANCE_POLICY"));
            }
            None if schema.row(kind).is_some() => attributes.put(kind, value),
            _ => {}
        }
    }
    Ok(())
}

/// A given CKA_CLASS or CKA_KEY_TYPE must be the one that the function or mechanism makes.
fn demand(attributes: &Attributes, kind: Attribute, value: u64) -> Result<()> {
    match attributes.number(kind) {
        Some(given) if given != value => {
            Err(named(Kind::TemplateInconsistent, kind, "does not go with the function or mechanism"))
        }
        _ => Ok(()),
    }
}

fn admit(origin: Origin, schema: &Schema, attr: &Attr, authority: Authority<'_>) -> Result<()> {
    let row = schema
        .row(attr.kind)
        .ok_or_else(|| named(Kind::AttributeType, attr.kind, "is not an attribute of such an object"))?;
    attr.value.check_shape(attr.kind)?;
    if row.notes.has(COMPUTED) {
        return Err(named(Kind::AttributeReadOnly, attr.kind, "is computed by the token"));
    }
    let (forbidden, refusal) = match origin {
        Origin::Create => (F2_NOT_CREATE, Kind::AttributeReadOnly),
        Origin::Generate => (F4_NOT_GENERATE, Kind::TemplateInconsistent),
        Origin::Unwrap | Origin::Derive => (F6_NOT_UNWRAP, Kind::TemplateInconsistent),
    };
    if row.notes.has(forbidden) {
        return Err(named(refusal, attr.kind, "cannot be given to this function"));
    }
    if !authority.may_trust(row, &attr.value) {
        return Err(named(Kind::AttributeReadOnly, attr.kind, "can be set to true by the SO only"));
    }
    Ok(())
}

fn require(origin: Origin, schema: &Schema, attributes: &Attributes) -> Result<()> {
    let needed = match origin {
        Origin::Create => F1_ON_CREATE,
        Origin::Generate => F3_ON_GENERATE,
        Origin::Unwrap | Origin::Derive => NONE,
    };
    match schema.iter().find(|row| row.notes.has(needed) && attributes.get(row.kind).is_none()) {
        Some(row) => Err(named(Kind::TemplateIncomplete, row.kind, "is missing")),
        None => Ok(()),
    }
}

fn fill_defaults(schema: &Schema, attributes: &mut Attributes, authority: Authority<'_>) {
    for row in schema.iter().filter(|row| row.kind != CKA_PRIVATE) {
        if attributes.get(row.kind).is_some() {
            continue;
        }
        match row.default {
            schema::Default::Absent => {}
            schema::Default::Empty => attributes.put(row.kind, Value::Empty),
            schema::Default::Bool(flag) => attributes.put(row.kind, Value::Bool(flag)),
            schema::Default::Ulong(number) => attributes.put(row.kind, Value::Ulong(number)),
            schema::Default::Usage => {
                // The strict profile wants wrapping asked for by name, because such a key can do nothing else.
                let wraps = matches!(row.kind, CKA_WRAP | CKA_UNWRAP);
                // Who forbids a key to sign has forbidden it to sign with recovery.
                let recovers = match row.kind {
                    CKA_SIGN_RECOVER => attributes.flag(CKA_SIGN),
                    CKA_VERIFY_RECOVER => attributes.flag(CKA_VERIFY),
                    _ => true,
                };
                let on = schema.is_on(row.kind) && recovers && !(authority.is_strict() && wraps);
                attributes.put(row.kind, Value::Bool(on));
            }
            schema::Default::F4 => attributes.put(row.kind, Value::bytes(crate::crypto::rsa::F4)),
        }
    }
    if attributes.get(CKA_PRIVATE).is_none() {
        attributes.put(CKA_PRIVATE, Value::Bool(schema.private_by_default()));
    }
}

/// The strict profile: a key that wraps or unwraps does nothing else.
fn check_roles(attributes: &Attributes) -> Result<()> {
    let any = |kinds: &[Attribute]| kinds.iter().any(|&kind| attributes.flag(kind));
    if any(&[CKA_WRAP, CKA_UNWRAP]) && any(&[CKA_ENCRYPT, CKA_DECRYPT, CKA_SIGN, CKA_VERIFY, CKA_DERIVE]) {
        let what = "policy.profile = \"strict\": a key that wraps or unwraps has no other use";
        return Err(Error::new(Kind::TemplateInconsistent, what));
    }
    Ok(())
}

/// The strict profile: a key that holds a secret names its mechanisms, so that one secret serves one purpose.
fn check_purpose(attributes: &Attributes) -> Result<()> {
    let holds_a_secret = matches!(attributes.class(), CKO_PRIVATE_KEY | CKO_SECRET_KEY);
    if holds_a_secret && attributes.get(CKA_ALLOWED_MECHANISMS).is_none() {
        let what = "CKA_ALLOWED_MECHANISMS is missing";
        return Err(Error::closed(Kind::TemplateIncomplete, "policy.profile = \"strict\"", what));
    }
    Ok(())
}

/// A key that wants an authentication for every use is private (PKCS#11 v3.0 §4.9, CKA_ALWAYS_AUTHENTICATE).
fn check_authentication(attributes: &Attributes) -> Result<()> {
    match attributes.flag(CKA_ALWAYS_AUTHENTICATE) && !attributes.flag(CKA_PRIVATE) {
        true => Err(named(Kind::TemplateInconsistent, CKA_ALWAYS_AUTHENTICATE, "goes with CKA_PRIVATE only")),
        false => Ok(()),
    }
}

/// Computes the history attributes of a key that is complete otherwise.
pub(crate) fn record_heritage(attributes: &mut Attributes, heritage: &Heritage) {
    let mechanism = match heritage {
        Heritage::Generated(mechanism) | Heritage::Recreated(mechanism) => mechanism.0,
        Heritage::Imported | Heritage::Derived { .. } => UNAVAILABLE,
    };
    let local = matches!(heritage, Heritage::Generated(_) | Heritage::Recreated(_));
    attributes.put(CKA_LOCAL, Value::Bool(local));
    attributes.put(CKA_KEY_GEN_MECHANISM, Value::Ulong(mechanism));
    if !matches!(attributes.class(), CKO_PRIVATE_KEY | CKO_SECRET_KEY) {
        return;
    }
    let (sensitive_before, kept_before) = match heritage {
        Heritage::Generated(_) => (true, true),
        Heritage::Recreated(_) | Heritage::Imported => (false, false),
        Heritage::Derived { always_sensitive, never_extractable } => (*always_sensitive, *never_extractable),
    };
    let always_sensitive = sensitive_before && attributes.flag(CKA_SENSITIVE);
    let never_extractable = kept_before && !attributes.flag(CKA_EXTRACTABLE);
    attributes.put(CKA_ALWAYS_SENSITIVE, Value::Bool(always_sensitive));
    attributes.put(CKA_NEVER_EXTRACTABLE, Value::Bool(never_extractable));
}

/// A child of a sensitive key is sensitive and stays inside, whatever its template says.
///
/// # Errors
/// [`Kind::TemplateInconsistent`] when the template asks for the contrary in so many words.
pub(crate) fn inherit_secrecy(attributes: &mut Attributes, asked: &[(Attribute, Option<bool>); 2]) -> Result<()> {
    for &(kind, given) in asked {
        let inherited = kind == CKA_SENSITIVE;
        if given.is_some_and(|given| given != inherited) {
            return Err(named(Kind::TemplateInconsistent, kind, "cannot be weaker than that of the key it comes from"));
        }
        attributes.put(kind, Value::Bool(inherited));
    }
    Ok(())
}

/// What a template says about CKA_SENSITIVE and CKA_EXTRACTABLE, for [`inherit_secrecy`].
pub(crate) fn asked_secrecy(template: &[Attr]) -> [(Attribute, Option<bool>); 2] {
    [CKA_SENSITIVE, CKA_EXTRACTABLE]
        .map(|kind| (kind, template.iter().find(|attr| attr.kind == kind).and_then(|attr| attr.value.as_bool())))
}

/// The attributes after C_SetAttributeValue.
///
/// # Errors
/// [`Kind::ActionProhibited`] when CKA_MODIFIABLE is false; one of the template errors otherwise. Nothing is changed then.
pub(crate) fn set(object: &Object, template: Vec<Attr>, authority: Authority<'_>) -> Result<Attributes> {
    if !object.attributes.flag(CKA_MODIFIABLE) {
        return Err(Error::new(Kind::ActionProhibited, "CKA_MODIFIABLE is false"));
    }
    change(object, template, authority, F8_MODIFIABLE)
}

/// The attributes of a copy (C_CopyObject, PKCS#11 v3.0 §5.7.2).
///
/// # Errors
/// [`Kind::ActionProhibited`] when CKA_COPYABLE is false; one of the template errors otherwise.
pub(crate) fn copy(object: &Object, template: Vec<Attr>, authority: Authority<'_>) -> Result<Attributes> {
    if !object.attributes.flag(CKA_COPYABLE) {
        return Err(Error::new(Kind::ActionProhibited, "CKA_COPYABLE is false"));
    }
    let mut attributes = change(object, template, authority, F8_MODIFIABLE.and(ON_COPY))?;
    attributes.take(CKA_UNIQUE_ID);
    Ok(attributes)
}

fn change(object: &Object, template: Vec<Attr>, authority: Authority<'_>, changeable: Notes) -> Result<Attributes> {
    let schema = object.schema()?;
    let mut attributes = object.attributes.clone();
    let mut given: Vec<(Attribute, Value)> = Vec::with_capacity(template.len());
    for attr in template {
        let row = schema
            .row(attr.kind)
            .ok_or_else(|| named(Kind::AttributeType, attr.kind, "is not an attribute of this object"))?;
        let value = attr.value.normalized();
        value.check_shape(attr.kind)?;
        if given.iter().any(|(kind, earlier)| *kind == attr.kind && *earlier != value) {
            return Err(named(Kind::TemplateInconsistent, attr.kind, "is given twice with different values"));
        }
        given.push((attr.kind, value.clone()));
        let now = object.attributes.get(attr.kind);
        let same = now == Some(&value);
        // A copy may repeat what the original says of itself, such as its class.
        let repeated = same && changeable.has(ON_COPY) && !row.notes.has(COMPUTED);
        if !row.notes.has(changeable) && !repeated {
            return Err(named(Kind::AttributeReadOnly, attr.kind, "cannot be changed"));
        }
        // PKCS#11 v3.0 table 11, footnotes 11 and 12: once it has its final value the attribute is read-only.
        let settled = (row.notes.has(F11_STICKY_TRUE) && now == Some(&Value::Bool(true)))
            || (row.notes.has(F12_STICKY_FALSE) && now == Some(&Value::Bool(false)) && !is_usage(row));
        if same && settled && !changeable.has(ON_COPY) {
            return Err(named(Kind::AttributeReadOnly, attr.kind, "has its final value"));
        }
        if same {
            continue;
        }
        let sticky = (row.notes.has(F11_STICKY_TRUE) && now == Some(&Value::Bool(true)))
            || (row.notes.has(F12_STICKY_FALSE) && now == Some(&Value::Bool(false)) && !settable(row, authority));
        if sticky {
            return Err(named(Kind::AttributeReadOnly, attr.kind, "cannot be changed back"));
        }
        if !authority.may_trust(row, &value) {
            return Err(named(Kind::AttributeReadOnly, attr.kind, "can be set to true by the SO only"));
        }
        attributes.put(attr.kind, value);
    }
    period::check_order(&attributes)?;
    Ok(attributes)
}

/// Whether policy lets this usage attribute be turned on.
fn settable(row: &Row, authority: Authority<'_>) -> bool {
    is_usage(row) && authority.policy.usage_bits_settable
}

fn is_usage(row: &Row) -> bool {
    row.default == schema::Default::Usage
}

fn named(kind: Kind, attribute: Attribute, what: &str) -> Error {
    Error::new(kind, format!("{attribute} {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ObjectId;
    use std::sync::LazyLock;

    static POLICY: LazyLock<PolicyConfig> = LazyLock::new(PolicyConfig::default);

    fn anyone() -> Authority<'static> {
        Authority { so: false, policy: &POLICY }
    }

    fn so() -> Authority<'static> {
        Authority { so: true, policy: &POLICY }
    }

    fn aes(template: Vec<Attr>) -> Result<Attributes> {
        build(Origin::Generate, CKO_SECRET_KEY, Some(CKK_AES), template, anyone())
    }

    fn object(attributes: Attributes) -> Object {
        Object::new(ObjectId([1; 16]), 1, attributes, Some(zeroize::Zeroizing::new(vec![0; 32])))
    }

    fn generated(extra: Vec<Attr>) -> Object {
        let mut template = vec![Attr::number(CKA_VALUE_LEN, 32)];
        template.extend(extra);
        let mut attributes = aes(template).expect("good template");
        record_heritage(&mut attributes, &Heritage::Generated(ck::mechanism::CKM_AES_KEY_GEN));
        object(attributes)
    }

    #[test]
    fn a_key_is_private_and_sensitive_by_default() {
        let key = generated(vec![]);
        for (kind, value) in [
            (CKA_PRIVATE, true),
            (CKA_SENSITIVE, true),
            (CKA_EXTRACTABLE, false),
            (CKA_LOCAL, true),
            (CKA_ALWAYS_SENSITIVE, true),
            (CKA_NEVER_EXTRACTABLE, true),
            (CKA_ENCRYPT, true),
        ] {
            assert_eq!(key.attributes.get(kind), Some(&Value::Bool(value)), "{kind}");
        }
    }

    #[test]
    fn bad_templates_are_refused_by_name() {
        let rows: [(Vec<Attr>, Kind); 7] = [
            (vec![], Kind::TemplateIncomplete),
            (vec![Attr::number(CKA_VALUE_LEN, 32), Attr::bytes(CKA_VALUE, vec![1; 32])], Kind::TemplateInconsistent),
            (vec![Attr::number(CKA_VALUE_LEN, 32), Attr::flag(CKA_LOCAL, true)], Kind::AttributeReadOnly),
            (vec![Attr::number(CKA_VALUE_LEN, 32), Attr::flag(CKA_TRUSTED, true)], Kind::AttributeReadOnly),
            (vec![Attr::number(CKA_VALUE_LEN, 32), Attr::number(CKA_MODULUS_BITS, 2048)], Kind::AttributeType),
            (vec![Attr::number(CKA_VALUE_LEN, 32), Attr::number(CKA_KEY_TYPE, 0)], Kind::TemplateInconsistent),
            (vec![Attr::number(CKA_VALUE_LEN, 32), Attr::number(CKA_SIGN, 1)], Kind::AttributeValue),
        ];
        for (template, kind) in rows {
            assert_eq!(aes(template).err().map(|error| error.kind()), Some(kind));
        }
    }

    #[test]
    fn sensitive_cannot_become_false() {
        let key = generated(vec![]);
        for template in
            [Attr::flag(CKA_SENSITIVE, false), Attr::flag(CKA_EXTRACTABLE, true), Attr::flag(CKA_PRIVATE, false)]
        {
            assert!(set(&key, vec![template.clone()], anyone()).is_err(), "set {}", template.kind);
            assert!(copy(&key, vec![template.clone()], anyone()).is_err(), "copy {}", template.kind);
        }
    }

    #[test]
    fn usage_can_be_cleared_but_not_turned_on() {
        let key = generated(vec![Attr::flag(CKA_DECRYPT, false)]);
        assert!(set(&key, vec![Attr::flag(CKA_ENCRYPT, false)], anyone()).is_ok());
        let refused = set(&key, vec![Attr::flag(CKA_DECRYPT, true)], anyone()).err().map(|error| error.kind());
        assert_eq!(refused, Some(Kind::AttributeReadOnly));
        assert!(copy(&key, vec![Attr::flag(CKA_DECRYPT, true)], anyone()).is_err());
    }

    #[test]
    fn a_computed_attribute_cannot_be_set_even_to_its_own_value() {
        let key = generated(vec![]);
        let refused = set(&key, vec![Attr::flag(CKA_LOCAL, true)], anyone()).err().map(|error| error.kind());
        assert_eq!(refused, Some(Kind::AttributeReadOnly));
        assert!(copy(&key, vec![Attr::number(CKA_CLASS, CKO_SECRET_KEY.0)], anyone()).is_ok());
        assert!(copy(&key, vec![Attr::flag(CKA_LOCAL, true)], anyone()).is_err());
    }

    #[test]
    fn a_switch_lets_usage_be_turned_on() {
        let policy = PolicyConfig { profile: Profile::Compat, usage_bits_settable: true, ..PolicyConfig::default() };
        let authority = Authority { so: false, policy: &policy };
        let key = generated(vec![Attr::flag(CKA_DECRYPT, false)]);
        assert!(set(&key, vec![Attr::flag(CKA_DECRYPT, true)], authority).is_ok());
        assert!(set(&key, vec![Attr::flag(CKA_SENSITIVE, false)], authority).is_err());
    }

    #[test]
    fn the_strict_profile_refuses_conflicting_roles() {
        let policy = PolicyConfig { profile: Profile::Strict, ..PolicyConfig::default() };
        let make = |extra: Vec<Attr>| {
            let allowed = Attr { kind: CKA_ALLOWED_MECHANISMS, value: Value::Ulongs(vec![0x1087]) };
            let template = [vec![Attr::number(CKA_VALUE_LEN, 32), allowed], extra].concat();
            let authority = Authority { so: false, policy: &policy };
            build(Origin::Generate, CKO_SECRET_KEY, Some(CKK_AES), template, authority)
        };
        assert!(make(vec![]).is_ok_and(|key| key.flag(CKA_ENCRYPT) && !key.flag(CKA_WRAP)));
        assert!(make(vec![Attr::flag(CKA_WRAP, true)]).is_err());
        let wraps = [Attr::flag(CKA_WRAP, true), Attr::flag(CKA_ENCRYPT, false), Attr::flag(CKA_DECRYPT, false)];
        assert!(make(wraps.to_vec()).is_ok());
    }

    #[test]
    fn the_strict_profile_wants_every_secret_bound_to_mechanisms() {
        let policy = PolicyConfig { profile: Profile::Strict, ..PolicyConfig::default() };
        let authority = Authority { so: false, policy: &policy };
        let template = vec![Attr::number(CKA_VALUE_LEN, 32)];
        let refused = build(Origin::Generate, CKO_SECRET_KEY, Some(CKK_AES), template, authority);
        let refused = refused.err().map(|error| (error.kind(), error.switch()));
        assert_eq!(refused, Some((Kind::TemplateIncomplete, Some("policy.profile = \"strict\""))));
    }

    #[test]
    fn a_key_that_wants_authentication_is_private() {
        let make = |private| {
            let template = vec![Attr::flag(CKA_ALWAYS_AUTHENTICATE, true), Attr::flag(CKA_PRIVATE, private)];
            build(Origin::Generate, CKO_PRIVATE_KEY, Some(CKK_RSA), template, anyone()).is_ok()
        };
        assert!(make(true) && !make(false));
    }

    #[test]
    fn built_in_objects_cannot_be_made() {
        for class in [CKO_PROFILE, CKO_MECHANISM, CKO_HW_FEATURE, CKO_VALIDATION] {
            let refused = build(Origin::Create, class, None, vec![Attr::number(CKA_CLASS, class.0)], so());
            assert_eq!(refused.err().map(|error| error.kind()), Some(Kind::AttributeValue), "{class}");
        }
    }

    #[test]
    fn trusted_is_for_the_so() {
        let key = generated(vec![]);
        assert!(set(&key, vec![Attr::flag(CKA_TRUSTED, true)], anyone()).is_err());
        assert!(set(&key, vec![Attr::flag(CKA_TRUSTED, true)], so()).is_ok());
    }

    #[test]
    fn an_unmodifiable_object_stays_so_in_a_copy() {
        let key = generated(vec![Attr::flag(CKA_MODIFIABLE, false)]);
        assert_eq!(
            set(&key, vec![Attr::bytes(CKA_LABEL, b"x".to_vec())], anyone()).err().map(|error| error.kind()),
            Some(Kind::ActionProhibited)
        );
        assert!(copy(&key, vec![Attr::flag(CKA_MODIFIABLE, true)], anyone()).is_err());
    }

    #[test]
    fn a_child_of_a_sensitive_key_is_sensitive() {
        let mut attributes = generated(vec![]).attributes;
        assert!(inherit_secrecy(&mut attributes, &asked_secrecy(&[Attr::flag(CKA_SENSITIVE, false)])).is_err());
        assert!(inherit_secrecy(&mut attributes, &asked_secrecy(&[])).is_ok());
        assert!(attributes.flag(CKA_SENSITIVE) && !attributes.flag(CKA_EXTRACTABLE));
    }
}
