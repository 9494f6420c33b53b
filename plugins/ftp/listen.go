package ftp

import (
	"context"
	"net"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/plugins/ftp/ftpd"
)

var _ plugins.Server = Driver{}

// Listen implements plugins.Server.
func (Driver) Listen(ctx context.Context, l net.Listener, options map[string]string, node plugins.Driver) error {
	return ftpd.Serve(ctx, l, options, node)
}
