"""python-pkcs11 as its own documentation uses it: keys in the token sign and encrypt; signatures are verified in the token."""

import os

import pkcs11
from pkcs11 import Attribute, KeyType, Mechanism
from pkcs11.util.ec import encode_named_curve_parameters

token = pkcs11.lib(os.environ["PKCS11_MODULE"]).get_token(token_label=os.environ["TOKEN_LABEL"])
with token.open(rw=True, user_pin=os.environ["PIN"]) as session:
    public, private = session.generate_keypair(KeyType.RSA, 2048, label="python", store=True)
    signature = private.sign(b"data", mechanism=Mechanism.SHA256_RSA_PKCS)
    assert public.verify(b"data", signature, mechanism=Mechanism.SHA256_RSA_PKCS)
    assert not public.verify(b"other", signature, mechanism=Mechanism.SHA256_RSA_PKCS)
    print("rsa ok")

    curve = session.create_domain_parameters(
        KeyType.EC, {Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")}, local=True
    )
    public, private = curve.generate_keypair(mechanism=Mechanism.EC_KEY_PAIR_GEN)
    signature = private.sign(b"data" * 8, mechanism=Mechanism.ECDSA)
    assert public.verify(b"data" * 8, signature, mechanism=Mechanism.ECDSA)
    print("ec ok")

    key = session.generate_key(KeyType.AES, 256)
    iv = session.generate_random(128)
    text = b"a text that is longer than one block of the cipher"
    sealed = key.encrypt(text, mechanism_param=iv)
    assert sealed != text and key.decrypt(sealed, mechanism_param=iv) == text
    # The same through many parts.
    chunks = list(key.encrypt((text[i : i + 7] for i in range(0, len(text), 7)), buffer_size=1024, mechanism_param=iv))
    assert b"".join(chunks) == sealed
    print("aes ok")
