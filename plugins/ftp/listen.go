package ftp

import (
	"context"
	"net"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/ftp/ftpd"
)

var _ plugins.Server = Driver{}

// CheckListen implements plugins.ListenChecker.
func (Driver) CheckListen(options map[string]string) error { return ftpd.CheckOptions(options) }

// Listen implements plugins.Server.
func (Driver) Listen(ctx context.Context, l net.Listener, options map[string]string, node plugins.Driver) error {
	return ftpd.Serve(ctx, l, options, node)
}
