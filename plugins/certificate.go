package plugins

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"math/big"
	"os"
	"strings"
	"time"
)

// Certificate is one end's, host's or plugin's, of their connection, for one life of the
// plugin: its own authority, for the name "localhost". It is of P-256 and not of P-521,
// as go-plugin's own: the gRPC of other languages does not verify that, and it costs
// 25 ms of each start.
func Certificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	is := &x509.Certificate{
		Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"}, SerialNumber: big.NewInt(now.UnixNano()),
		NotBefore: now.Add(-time.Minute), NotAfter: now.AddDate(30, 0, 0), // a life of the plugin
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, IsCA: true, // it is its own authority
	}
	der, err := x509.CreateCertificate(rand.Reader, is, is, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// hostCertificate is go-plugin's entry of the environment with the host's certificate.
const hostCertificate = "PLUGIN_CLIENT_CERT"

// secured is the plugin's end of the connection, that lets nobody in but the host; nil
// for a host that has no certificate. go-plugin's first line says what the host is to
// expect, but only of a certificate that go-plugin has made: until then os.Stdout is a
// pipe, and the line gets ours on its way.
func secured() (func() (*tls.Config, error), error) {
	pem := os.Getenv(hostCertificate)
	if pem == "" {
		return nil, nil
	}
	hosts := x509.NewCertPool()
	if !hosts.AppendCertsFromPEM([]byte(pem)) {
		return nil, errors.New("there is no certificate in " + hostCertificate)
	}
	own, err := Certificate()
	if err != nil {
		return nil, err
	}
	lines, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	out := os.Stdout
	os.Stdout = w
	go func() {
		line, err := bufio.NewReader(lines).ReadString('\n')
		if err == nil {
			_, _ = out.WriteString(withCertificate(line, own.Certificate[0])) // a host that does not read is gone
		}
		_, _ = lines.Close(), w.Close()
	}()
	c := &tls.Config{Certificates: []tls.Certificate{own}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: hosts, RootCAs: hosts, MinVersion: tls.VersionTLS12, ServerName: "localhost"}
	return func() (*tls.Config, error) { return c, nil }, nil
}

// withCertificate puts a certificate where go-plugin's first line has it, the sixth place.
func withCertificate(line string, der []byte) string {
	fields := strings.Split(strings.TrimSuffix(line, "\n"), "|")
	if len(fields) > 5 {
		fields[5] = base64.RawStdEncoding.EncodeToString(der)
	}
	return strings.Join(fields, "|") + "\n"
}
