package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"

	"github.com/pannier/pannier/engine/admin"
)

// What browsers load once: styles, scripts, the mark. assets/README.md says where they
// are from.

//go:embed assets/*.css assets/*.js assets/*.svg
var assetFiles embed.FS

//go:embed templates/*.html
var templateFiles embed.FS

// asset is a file as it is served.
type asset struct {
	kind, tag   string
	plain, gzip []byte
}

var assets = sync.OnceValue(func() map[string]asset {
	kinds := map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
	all := map[string]asset{}
	files, err := assetFiles.ReadDir("assets")
	if err != nil {
		panic(err) // it is in the binary
	}
	for _, f := range files {
		text, err := assetFiles.ReadFile("assets/" + f.Name())
		if err != nil {
			panic(err)
		}
		sum := sha256.Sum256(text)
		all[f.Name()] = asset{kinds[path.Ext(f.Name())], hex.EncodeToString(sum[:6]), text, compressed(text)}
	}
	return all
})

// Style and Icon are the paths of the style sheet and of the mark, for pages that are not of this
// package.
func Style() string { return assetPath("page.css") }
func Icon() string  { return assetPath("icon.svg") }

// assetPath is where a file is, in the version that the binary has.
func assetPath(name string) string { return "/assets/" + name + "?v=" + assets()[name].tag }

// serveAsset serves the files that are in the binary, by their names: there is no path
// in them.
func serveAsset(w http.ResponseWriter, r *http.Request) {
	a, ok := assets()[r.PathValue("name")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", a.kind)
	if r.URL.Query().Get("v") == a.tag {
		h.Set("Cache-Control", "private, max-age=31536000, immutable")
	}
	h.Set("Vary", "Accept-Encoding")
	body := a.plain
	if accepts(r) {
		h.Set("Content-Encoding", "gzip")
		body = a.gzip
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // to nobody, if it fails
}

func accepts(r *http.Request) bool {
	for _, e := range strings.Split(r.Header.Get("Accept-Encoding"), ",") {
		if name, q, _ := strings.Cut(strings.TrimSpace(e), ";"); name == "gzip" && strings.TrimSpace(q) != "q=0" {
			return true
		}
	}
	return false
}

var writers = sync.Pool{New: func() any { w, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed); return w }}

// smallest is from which size on a page is compressed.
const smallest = 1 << 10

// writeCompressed writes a page, compressed if the caller takes that.
func writeCompressed(w http.ResponseWriter, r *http.Request, code int, body []byte) {
	w.Header().Set("Vary", "Accept-Encoding, HX-Request")
	if len(body) >= smallest && accepts(r) {
		var b bytes.Buffer
		z := writers.Get().(*gzip.Writer)
		z.Reset(&b)
		_, _ = z.Write(body) // to a buffer
		_ = z.Close()
		writers.Put(z)
		w.Header().Set("Content-Encoding", "gzip")
		body = b.Bytes()
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(code)
	_, _ = w.Write(body) // to nobody, if it fails
}

func compressed(text []byte) []byte {
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
	_, _ = z.Write(text)
	_ = z.Close()
	return b.Bytes()
}

// templates are all pages and parts. A page is layout.html with its own middle.
// They are read when the first page is asked for: each start of the program, a plugin's too, would pay for it.
var templates = sync.OnceValue(func() *template.Template {
	t := template.New("").Funcs(template.FuncMap{
		"asset": assetPath, "size": size, "file": fileName, "ago": ago, "clock": clock, "stamp": stamp, "short": shortID, "problem": admin.Problem, "count": count, "number": number, "lower": strings.ToLower,
		"row": func(r row, caller Caller) rowIn { return rowIn{r, caller} },
	})
	t = template.Must(t.ParseFS(templateFiles, "templates/*.html"))
	for _, name := range []string{"transfers", "transfer", "errors", "partners", "folders", "folder", "times", "failed", "answer"} {
		template.Must(t.New("page-" + name).Parse(`{{template "top" .}}{{template "` + name + `" .}}{{template "bottom" .}}`))
	}
	return t
})

// rowIn is a row, and who looks at it.
type rowIn struct {
	row
	Caller Caller
}
