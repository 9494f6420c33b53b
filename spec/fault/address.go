package fault

import (
	"errors"
	"io/fs"
	"net/url"
)

// WithoutAddress is an error of net/http without the address that was called, in which there
// may be a secret.
func WithoutAddress(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// WithoutPath is an error of the operating system without the path, for who has said it already.
func WithoutPath(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}
