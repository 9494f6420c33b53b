package host

import (
	"crypto/tls"
	"encoding/pem"

	"github.com/pannier/pannier/plugins"
)

// certified is the host's end of a connection to one life of a plugin, as go-plugin's
// AutoMTLS makes it, and the entry of the plugin's environment with the certificate.
func certified() (*tls.Config, string, error) {
	own, err := plugins.Certificate()
	if err != nil {
		return nil, "", err
	}
	c := &tls.Config{Certificates: []tls.Certificate{own}, MinVersion: tls.VersionTLS12, ServerName: "localhost"}
	return c, "PLUGIN_CLIENT_CERT=" + string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: own.Certificate[0]})), nil
}
