package guest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/crypto/bcrypt"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// mostSecret is the most bytes of a file of keys or of a password.
const mostSecret = 1 << 20

// nobody is the hash of a password that nobody has: an unknown user takes as long as a
// known one.
var nobody = sync.OnceValue(func() []byte {
	b, _ := bcrypt.GenerateFromPassword([]byte(rand.Text()), bcrypt.DefaultCost) // fails for no such text
	return b
})

// proved says whether a client is the user. It reads the files each time.
func (u *User) proved(ctx context.Context, known bool, who plugins.Endpoint) error {
	key := who.Secrets["key"]
	if key == "" {
		key = who.Secrets["offered"]
	}
	if key != "" {
		if !known || u.Keys == "" {
			return errors.New("no such user, or it has no keys")
		}
		return listed(u.Keys, key)
	}
	done, err := mayHash(ctx)
	if err != nil {
		return err
	}
	defer done()
	hash := nobody()
	var unread error
	if known && u.Password != "" {
		var b []byte
		if b, unread = readSecret(u.Password); unread == nil {
			hash = bytes.TrimSpace(b)
		}
	}
	err = bcrypt.CompareHashAndPassword(hash, digested(who.Password))
	switch {
	case unread != nil:
		return unread
	case !known || u.Password == "":
		return errors.New("no such user, or it has no password")
	case errors.Is(err, bcrypt.ErrMismatchedHashAndPassword):
		return errors.New("wrong password")
	case err != nil:
		return fault.New("read password", fault.Invalid, "%s holds no hash: write what pannier password prints", u.Password)
	}
	return nil
}

// digested is a password as bcrypt takes it: all of it counts, not its first 72 bytes.
func digested(password string) []byte {
	if len(password) <= 72 {
		return []byte(password)
	}
	sum := sha256.Sum256([]byte(password))
	return sum[:]
}

// Hash is the line that a file of a password has.
func Hash(password string) (string, error) {
	if password == "" {
		return "", fault.New("hash password", fault.Invalid, "an empty password lets everybody in")
	}
	b, err := bcrypt.GenerateFromPassword(digested(password), bcrypt.DefaultCost)
	return string(b), fault.Wrap("hash password", "", err)
}

// readSecret reads a file that only its owner may write to.
func readSecret(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.Wrap("read", path, err)
	}
	defer f.Close()
	fi, err := f.Stat()
	switch {
	case err != nil:
		return nil, fault.Wrap("read", path, err)
	case !fi.Mode().IsRegular():
		return nil, fault.New("read", fault.Invalid, "%s is no file", path)
	case fi.Mode().Perm()&0o022 != 0:
		return nil, fault.New("read", fault.Permission, "others than its owner may write to %s: chmod go-w it", path)
	}
	b, err := io.ReadAll(io.LimitReader(f, mostSecret+1))
	if err == nil && len(b) > mostSecret {
		err = fault.New("read", fault.TooLong, "more than %d bytes", mostSecret)
	}
	return b, fault.Wrap("read", path, err)
}

// listed says whether a public key is in a file of them. Lines with options are passed
// over: what they restrict is not restricted here.
func listed(path, key string) error {
	b, err := readSecret(path)
	if err != nil {
		return err
	}
	want := strings.Fields(key)
	if len(want) < 2 {
		return errors.New("no public key")
	}
	lines := bufio.NewScanner(bytes.NewReader(b))
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) >= 2 && f[0] == want[0] && subtle.ConstantTimeCompare([]byte(f[1]), []byte(want[1])) == 1 {
			return nil
		}
	}
	return errors.New("it has another key")
}
