// An enrolment by Bouncy Castle's EST client.
//
// usage: java -cp bcpkix.jar:bcprov.jar:bcutil.jar BouncyCastleEnrol.java HOST:PORT ROOT.pem TLS-VERSION LABEL|- USER PASSWORD NAME OUT.pem

import java.io.FileInputStream;
import java.io.FileWriter;
import java.security.KeyPair;
import java.security.KeyPairGenerator;
import java.security.SecureRandom;
import java.security.Security;
import java.security.cert.CertificateFactory;
import java.security.cert.TrustAnchor;
import java.security.cert.X509Certificate;
import java.util.Set;
import javax.security.auth.x500.X500Principal;
import org.bouncycastle.cert.X509CertificateHolder;
import org.bouncycastle.est.ESTAuth;
import org.bouncycastle.est.ESTService;
import org.bouncycastle.est.EnrollmentResponse;
import org.bouncycastle.est.jcajce.JcaHttpAuthBuilder;
import org.bouncycastle.est.jcajce.JcaJceUtils;
import org.bouncycastle.est.jcajce.JsseESTServiceBuilder;
import org.bouncycastle.jce.provider.BouncyCastleProvider;
import org.bouncycastle.openssl.jcajce.JcaPEMWriter;
import org.bouncycastle.operator.jcajce.JcaContentSignerBuilder;
import org.bouncycastle.pkcs.jcajce.JcaPKCS10CertificationRequestBuilder;

public class BouncyCastleEnrol {
    public static void main(String[] given) throws Exception {
        Security.addProvider(new BouncyCastleProvider());
        X509Certificate root =
            (X509Certificate) CertificateFactory.getInstance("X.509").generateCertificate(new FileInputStream(given[1]));
        var trust = JcaJceUtils.getCertPathTrustManager(Set.of(new TrustAnchor(root, null)), null);
        JsseESTServiceBuilder builder = new JsseESTServiceBuilder(given[0], trust);
        builder.withTimeout(60000).withTLSVersion(given[2]);
        if (!given[3].equals("-")) builder.withLabel(given[3]);
        ESTService server = builder.build();
        System.out.println("cacerts " + server.getCACerts().getCertificateStore().getMatches(null).size());
        System.out.println("csrattrs " + server.getCSRAttributes().getAttributesResponse().getRequirements().size());
        ESTAuth user = new JcaHttpAuthBuilder(null, given[4], given[5].toCharArray())
            .setNonceGenerator(new SecureRandom()).setProvider("BC").build();
        KeyPairGenerator generator = KeyPairGenerator.getInstance("EC");
        generator.initialize(256);
        KeyPair pair = generator.generateKeyPair();
        var request = new JcaPKCS10CertificationRequestBuilder(new X500Principal("CN=" + given[6]), pair.getPublic())
            .build(new JcaContentSignerBuilder("SHA256withECDSA").build(pair.getPrivate()));
        EnrollmentResponse answer = server.simpleEnroll(false, request, user);
        X509CertificateHolder certificate = answer.getStore().getMatches(null).iterator().next();
        if (!certificate.getSubjectPublicKeyInfo().equals(request.getSubjectPublicKeyInfo())) {
            throw new Exception("a certificate for another key");
        }
        try (JcaPEMWriter out = new JcaPEMWriter(new FileWriter(given[7]))) {
            out.writeObject(certificate);
        }
        System.out.println("enrolled " + certificate.getSubject());
    }
}
