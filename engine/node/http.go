package node

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/pannier/pannier/engine/access"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/engine/config"
	"github.com/pannier/pannier/engine/httpd"
	"github.com/pannier/pannier/engine/rest"
	"github.com/pannier/pannier/engine/web"
	"github.com/pannier/pannier/flow/carrier"
)

// tokensFile has the node's tokens, in the state directory.
const tokensFile = "tokens.json"

// certificateFile has the node's own certificate for browsers, in the state directory.
const certificateFile = "http.pem"

// TokensPath is their file in a state directory.
func TokensPath(state string) string { return filepath.Join(state, tokensFile) }

// newTokens reads the node's tokens.
func (n *Node) newTokens() (err error) {
	n.tokens, err = access.OpenTokens(TokensPath(n.fixed.State), n.log)
	return err
}

// listenHTTP opens where the node speaks HTTP, unless it is nowhere. What is served there
// is mounted here.
func (n *Node) listenHTTP(cfg *config.HTTP, id *carrier.Identity) error {
	if len(cfg.Listen) == 0 {
		return nil
	}
	cert, err := n.certificate(cfg, id)
	if err != nil {
		return err
	}
	if n.http, err = httpd.New(httpd.Config{Tokens: n.tokens, Local: admin.Access{}.Allows, Admin: n.admin.HTTP(), Style: web.Style(), Log: n.log, Refused: n.refused}); err != nil {
		return err
	}
	n.undone(func() error {
		n.admin.Close() // first: who watches hears the end
		n.http.Close()
		return nil
	})
	if err := rest.Mount(n.http, n.admin.Local(), rest.Options{}); err != nil {
		return err
	}
	if err := n.mountPage(); err != nil {
		return err
	}
	for _, r := range n.Health() {
		scope := access.Read
		if r.Public {
			scope = access.Public
		}
		n.http.Mount(r.Pattern, r.Handler, scope)
	}
	for _, address := range cfg.Listen {
		if err := n.http.Listen(address, cert); err != nil {
			return err
		}
	}
	return nil
}

// certificate is what the node proves itself with to who speaks HTTP over TLS.
func (n *Node) certificate(cfg *config.HTTP, id *carrier.Identity) (httpd.Certificate, error) {
	switch {
	case cfg.Certificate != "":
		return httpd.Files(cfg.Certificate, cfg.Key)
	case !slices.ContainsFunc(cfg.Listen, func(address string) bool { return strings.HasPrefix(address, "tls://") }):
		return nil, nil
	}
	cert, print, err := httpd.Own(id.Certificate(), filepath.Join(n.fixed.State, certificateFile))
	if err == nil {
		n.log.Info("browsers are shown a certificate of this node's own", "fingerprint", print)
	}
	return cert, err
}

// HTTP is the node's server of HTTP, for those who mount something there before Run; nil:
// the node has none.
func (n *Node) HTTP() *httpd.Server { return n.http }
