package s3

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/minio/minio-go/v7"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// session is a set of keys at one server, which knows of no logins.
type session struct {
	config *config
	core   *minio.Core
	http   *transport
	caps   plugins.Capabilities
	over   context.Context // ends with Close
	end    context.CancelCauseFunc
}

// Capabilities implements plugins.Session.
func (s *session) Capabilities() plugins.Capabilities { return s.caps }

// Close ends what still runs. Uploads that nobody has aborted stay at the server.
func (s *session) Close() error {
	s.end(fault.New("s3", fault.Canceled, "the session was closed"))
	s.http.http.CloseIdleConnections()
	return nil
}

// maxKey is the most bytes of a key.
const maxKey = 1024

// key is the name as the server has it; of "/" it is the base with a slash, or "".
func (s *session) key(name string) (string, error) {
	if err := plugins.CheckName(name); err != nil {
		return "", err
	}
	k := s.config.base + name[1:]
	if len(k) > maxKey {
		return "", &fault.Error{Op: "s3 name", Kind: fault.TooLong, Subject: name, Err: fault.New("key", fault.TooLong, "with the base it has %d bytes, S3 takes %d", len(k), maxKey)}
	}
	return k, nil
}

// file is the key of a name that can be a file's.
func (s *session) file(name string) (string, error) {
	if name == "/" {
		return "", fault.New("s3 name", fault.Invalid, "/ is a directory")
	}
	return s.key(name)
}

// head is what the server says of an object.
func (s *session) head(ctx context.Context, key string) (o minio.ObjectInfo, err error) {
	err = again(ctx, func() (err error) {
		o, err = s.core.StatObject(ctx, s.config.bucket, key, minio.StatObjectOptions{Checksum: true})
		return s.failed(ctx, "HeadObject", key, err)
	})
	if err == nil && o.Size < 0 {
		err = s.said(fault.Protocol, "HeadObject", key, "the server does not say how large it is")
	}
	return o, err
}

// Stat is of a file, or of a directory: of what other names have before a slash.
func (s *session) Stat(ctx context.Context, name string) (plugins.Attr, error) {
	if name == "/" {
		return plugins.Attr{Name: name, Size: -1, Dir: true}, ctx.Err()
	}
	key, err := s.key(name)
	if err != nil {
		return plugins.Attr{}, err
	}
	o, err := s.head(ctx, key)
	if err == nil {
		return plugins.Attr{Name: name, Size: o.Size, Modified: o.LastModified}, nil
	}
	if fault.KindOf(err) != fault.NotFound || !s.caps.List {
		return plugins.Attr{}, err
	}
	first, listErr := s.first(ctx, key+"/")
	if listErr != nil {
		return plugins.Attr{}, listErr
	}
	if first == nil {
		return plugins.Attr{}, err
	}
	a := plugins.Attr{Name: name, Size: -1, Dir: true}
	if first.Key == key+"/" { // which Mkdir has made
		a.Modified = first.LastModified
	}
	return a, nil
}

// Remove removes a file, or a directory in which there is nothing.
func (s *session) Remove(ctx context.Context, name string) error {
	key, err := s.file(name)
	if err != nil {
		return err
	}
	if _, err = s.head(ctx, key); err == nil { // the server says the same of what was not there
		return s.delete(ctx, key)
	}
	if fault.KindOf(err) != fault.NotFound || !s.caps.List {
		return err
	}
	dir := key + "/"
	found, made := 0, false
	for o, err := range s.objects(ctx, dir, 2) {
		if err != nil {
			return err
		}
		if made = made || o.Key == dir; o.Key != dir {
			found++
			break
		}
	}
	switch {
	case found > 0:
		return s.said(fault.Invalid, "DeleteObject", dir, "the directory is not empty").Advise("remove what is in it first")
	case !made:
		return err
	}
	return s.delete(ctx, dir)
}

func (s *session) delete(ctx context.Context, key string) error {
	return again(ctx, func() error {
		return s.failed(ctx, "DeleteObject", key, s.core.RemoveObject(ctx, s.config.bucket, key, minio.RemoveObjectOptions{}))
	})
}

// Mkdir makes an empty object whose name ends with a slash, as other programs do that show
// directories: without it a directory is there as long as something is in it.
func (s *session) Mkdir(ctx context.Context, name string) error {
	key, err := s.key(name)
	if err != nil || name == "/" {
		return err
	}
	switch a, err := s.Stat(ctx, name); {
	case err == nil && a.Dir:
		return nil
	case err == nil:
		return s.said(fault.Exists, "PutObject", key, "a file has the name").Advise("remove the file, or take another name")
	case fault.KindOf(err) != fault.NotFound:
		return err
	}
	return again(ctx, func() error {
		_, err := s.core.PutObject(ctx, s.config.bucket, key+"/", http.NoBody, 0, "", emptySHA256, minio.PutObjectOptions{DisableContentSha256: true})
		return s.failed(ctx, "PutObject", key+"/", err)
	})
}

// Rename copies, and then removes: S3 has nothing else. If it fails between, both names
// are there.
func (s *session) Rename(ctx context.Context, from, to string) error {
	key, err := s.file(from)
	if err != nil {
		return err
	}
	target, err := s.file(to)
	if err != nil {
		return err
	}
	if key == target {
		_, err := s.head(ctx, key)
		return err
	}
	if _, err := s.head(ctx, key); err != nil {
		if a, dirErr := s.Stat(ctx, from); dirErr == nil && a.Dir {
			return s.said(fault.Invalid, "CopyObject", key, "it is a directory").Advise("rename what is in it: directories are only parts of names")
		}
		return err
	}
	c := copying{from: s, to: s, key: key, target: target, moves: true}
	if _, err := c.run(ctx, plugins.CopyRequest{}); err != nil {
		c.giveUp(ctx)
		return err
	}
	if err := s.delete(ctx, key); err != nil {
		var e *fault.Error
		if errors.As(err, &e) {
			e.Advice = strings.TrimSpace("the file has both names now; remove the old one. " + e.Advice)
		}
		return err
	}
	return nil
}
