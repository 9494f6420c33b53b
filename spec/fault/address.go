package fault

import (
	"errors"
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
