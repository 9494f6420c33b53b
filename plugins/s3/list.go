package s3

import (
	"context"
	"iter"
	"log/slog"
	"net/http"
	"regexp"
	"strings"

	"github.com/minio/minio-go/v7"

	"github.com/pannier/pannier/plugins"
	"github.com/pannier/pannier/spec/fault"
)

// pages watches the requests of one listing: a server may lead in a circle, or give
// page after page with nothing that is of use.
type pages struct {
	last  string // where the page before went on
	empty int    // pages since the last entry of use
	some  bool
}

type pagesKey struct{}

const maxEmpty = 1000 // pages

// next is called before each request.
func (p *pages) next(req *http.Request) error {
	at := req.URL.Query().Get("continuation-token")
	if p.some && at == p.last {
		return fault.Concluded("list", fault.Protocol, "the server goes on where it has gone on before: the listing would never end")
	}
	p.last, p.some = at, true
	if p.empty++; p.empty > maxEmpty {
		return fault.Concluded("list", fault.Protocol, "the server has given %d pages with nothing, and says that there is more", maxEmpty)
	}
	return nil
}

// objects are those below a prefix, and the prefixes up to the next slash, which end with
// it, pages of at most so many at a time. There are no more than the option allows, of use or not.
func (s *session) objects(ctx context.Context, prefix string, page int) iter.Seq2[minio.ObjectInfo, error] {
	return func(yield func(minio.ObjectInfo, error) bool) {
		p := &pages{}
		owner := false
		n, self := 0, 0
		with := context.WithValue(ctx, pagesKey{}, p)
		for o := range s.core.ListObjectsIter(with, s.config.bucket, minio.ListObjectsOptions{Prefix: prefix, MaxKeys: page, FetchOwner: &owner}) {
			if o.Err != nil {
				yield(o, s.failed(ctx, "ListObjectsV2", prefix, o.Err))
				return
			}
			if !strings.HasPrefix(o.Key, prefix) {
				yield(o, s.said(fault.Protocol, "ListObjectsV2", prefix, "the server lists %s, which does not begin so", fault.Shown(o.Key)))
				return
			}
			if o.Key == prefix { // once it is not counted
				self = 1
			}
			if n++; n > s.config.maxEntries+self {
				yield(o, s.said(fault.Protocol, "ListObjectsV2", prefix, "there are more than %d entries", s.config.maxEntries).Advise("raise the option max-entries if that is right"))
				return
			}
			if p.empty > 0 {
				if name, _ := entry(o.Key, prefix); name != "" && !ours.MatchString(name) {
					p.empty = 0
				}
			}
			if !yield(o, nil) {
				return
			}
		}
		if ctx.Err() != nil {
			yield(minio.ObjectInfo{}, s.failed(ctx, "ListObjectsV2", prefix, ctx.Err()))
		}
	}
}

// first is one object or prefix below a prefix; nil: there is none.
func (s *session) first(ctx context.Context, prefix string) (*minio.ObjectInfo, error) {
	for o, err := range s.objects(ctx, prefix, 1) {
		return &o, err
	}
	return nil, nil
}

// ours are the names of what an Abort has kept.
var ours = regexp.MustCompile(`^\.pannier-[0-9a-f]{16}\.part$`)

// entry is the name of what is listed below a prefix, and whether it is a directory's; "": none can be called so.
func entry(key, prefix string) (name string, dir bool) {
	name, dir = strings.CutSuffix(key[len(prefix):], "/")
	if strings.Contains(name, "/") || plugins.CheckName("/"+name) != nil {
		name = ""
	}
	return name, dir
}

// List yields what is below a directory up to the next slash. Directories are what names
// have in common, and have no times; a name that is both is listed as both.
func (s *session) List(ctx context.Context, dir string) iter.Seq2[plugins.Attr, error] {
	return func(yield func(plugins.Attr, error) bool) {
		prefix, err := s.key(dir)
		if err != nil {
			yield(plugins.Attr{}, err)
			return
		}
		if dir != "/" {
			prefix += "/"
		}
		there, strange := dir == "/", 0
		for o, err := range s.objects(ctx, prefix, 1000) {
			if err != nil {
				yield(plugins.Attr{}, err)
				return
			}
			there = true
			name, isDir := entry(o.Key, prefix)
			switch {
			case o.Key == prefix || ours.MatchString(name):
				continue
			case name == "":
				strange++
				continue
			}
			a := plugins.Attr{Name: name, Size: o.Size, Modified: o.LastModified, Dir: isDir}
			if isDir {
				a.Size = -1
			}
			if !yield(a, nil) {
				return
			}
		}
		if strange > 0 {
			slog.Warn("entries that cannot be names are left out", "server", s.config.where, "directory", dir, "entries", strange)
		}
		if !there {
			yield(plugins.Attr{}, s.said(fault.NotFound, "ListObjectsV2", prefix, "nothing has a name that begins so").Advise("check the name; a directory without anything in it is there only if somebody has made it"))
		}
	}
}
