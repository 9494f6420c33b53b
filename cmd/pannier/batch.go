package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/engine"
	"github.com/pannier/pannier/engine/admin"
	"github.com/pannier/pannier/engine/config"
	"github.com/pannier/pannier/spec/adminpb"
	"github.com/pannier/pannier/spec/fault"
	"github.com/pannier/pannier/spec/quantity"
	"github.com/pannier/pannier/spec/shellword"
)

// Limits of a batch.
const (
	mostBatch      = 64 << 20 // bytes
	mostBatchLines = 100_000  // that are not empty
	atOnce         = 16       // are registered at a time
)

// batchFlags are those of run.
type batchFlags struct {
	id                           string
	dry, keepGoing, wait, asJSON bool
}

func (c *console) runCommand() *cobra.Command {
	var f batchFlags
	cmd := &cobra.Command{
		Use:   "run [FILE|-]",
		Short: "Make the requests of a batch, a line for each",
		Long: `Make the requests of a batch, a line for each, from a file or from stdin. A line has the
words of send, get or copy, with their flags but --wait, --json and --dry-run:

  send /srv/out/a.mov hostb hostc:/in/ --priority 5
  get hostb:exports/list.csv list.csv --rule inbox
  copy hosta:/x 'hostb:/with blanks'     # a comment
  {"partner":"hostb","rule":"push","source":"a.mov"}

Words are quoted as for a shell, with ' " and \, but there is none: nothing is expanded. A
line that begins with { is a request as POST /v1/requests takes it. Paths are from here.

Unless all lines are possible nothing is registered, and the first 20 problems are told, with
line and column; --keep-going registers the others. The same batch again is the same
requests, also after Ctrl-C or a crash: each has an id made of that of the batch, its line,
and how often that line came before. The batch's is made of its content, or it is --id: with
that, lines can be added or mended, and the others stay what they are.

--dry-run registers nothing, and prints a line for each request, which a shell can run, and so
can run; with --json, each as a request that run takes. The exit code is the highest of those its requests would have had alone, or of its lines.`,
		Example: `  # All or nothing, and see it through
  pannier run nightly.txt --id "nightly $(date +%F)" --wait
  # What would it do?
  pannier run nightly.txt --dry-run
  # From another program
  find /srv/out -name '*.iso' -printf "send '%p' hostb\n" | pannier run -`,
		Args: cobra.MaximumNArgs(1),
		RunE: c.run(func(ctx context.Context, cmd *cobra.Command, client *admin.Client, args []string) error {
			name, text, err := readBatch(cmd.InOrStdin(), args)
			if err != nil {
				return err
			}
			b := &batch{c: c, cmd: cmd, client: client, f: &f, name: name, key: f.id, seen: map[string]int{}}
			if b.key == "" {
				b.key = "content " + keyID(text)
			}
			return b.run(ctx, text)
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&f.id, "id", "", "`KEY` of the batch, any text: a line of the same batch again is the same requests (default: of its content)")
	flags.BoolVar(&f.dry, "dry-run", false, "register nothing; print what would be, a line for each request")
	flags.BoolVar(&f.keepGoing, "keep-going", false, "register what is possible although not all is")
	flags.BoolVar(&f.wait, "wait", false, "show progress until all are over; Ctrl-C only detaches, a second one cancels")
	jsonFlag(cmd, &f.asJSON)
	return cmd
}

// readBatch is the text of a batch, and what it is called in messages.
func readBatch(stdin io.Reader, args []string) (name, text string, err error) {
	name = "stdin"
	from := stdin
	if len(args) == 1 && args[0] != "-" {
		f, err := os.Open(args[0])
		if err != nil {
			return "", "", fault.Wrap("read batch", args[0], err)
		}
		defer f.Close()
		name, from = args[0], f
	}
	b, err := io.ReadAll(io.LimitReader(from, mostBatch+1))
	if err == nil && len(b) > mostBatch {
		err = fault.New("read batch", fault.TooLong, "it has more than %d MiB: split it", mostBatch>>20)
	}
	return name, string(b), fault.Wrap("read batch", name, err)
}

// batch is one that is run.
type batch struct {
	c      *console
	cmd    *cobra.Command
	client *admin.Client
	f      *batchFlags
	name   string
	key    string
	seen   map[string]int // how often a line has come, by its words
	items  []batchItem
	errs   []error
	more   int // lines whose problems are not among errs
	code   int // the highest exit code of those
}

// batchItem is a request of a line.
type batchItem struct {
	line  int
	kind  string // send, get or copy; empty: JSON
	order *adminpb.SubmitRequest
	made  bool // its id is the batch's: if it is known, it is this one
}

// mostProblems is how many are told.
const mostProblems = 20

func (b *batch) run(ctx context.Context, text string) error {
	if err := b.plan(ctx, text); err != nil {
		return err
	}
	problems := b.worst(ctx)
	switch {
	case len(b.errs) > 0 && (!b.f.keepGoing || b.f.dry):
		if len(b.items) > 0 && !b.f.dry {
			problems = command.Suggest(problems, "Nothing was registered. With --keep-going the other lines are.")
		}
		return problems
	case b.f.dry:
		return b.c.dryRun(ctx, b.cmd.OutOrStdout(), b.client, b.items, b.f.asJSON)
	}
	return b.submit(ctx)
}

// plan reads all lines and asks the daemon what they mean. An error is of no line.
func (b *batch) plan(ctx context.Context, text string) error {
	if config.IsUTF16([]byte(text)) {
		return fault.New("read batch", fault.Invalid, "%s: %s", b.name, config.NotUTF16)
	}
	lines, texts := 0, strings.Split(string(config.Unmarked([]byte(text))), "\n")
	shown := newTally(b.cmd.ErrOrStderr(), "read", len(texts))
	defer shown.clear()
	for i, line := range texts {
		shown.add()
		items, err := b.line(ctx, line)
		if ctx.Err() != nil {
			return fault.Wrap("read batch", b.name, context.Cause(ctx))
		}
		if command.Code(ctx, err) == command.NoDaemon {
			return err
		}
		if err != nil {
			column := 1
			var at batchError
			if errors.As(err, &at) {
				column = at.column
			}
			if len(b.errs) < mostProblems {
				b.errs = append(b.errs, fmt.Errorf("%s:%d:%d: %w", b.name, i+1, column, err))
			} else {
				b.more, b.code = b.more+1, max(b.code, command.Code(ctx, err))
			}
			continue
		}
		if len(items) > 0 {
			lines++
		}
		if lines > mostBatchLines {
			return fault.New("read batch", fault.TooLong, "%s has more than %d lines: split it", b.name, mostBatchLines)
		}
		for _, it := range items {
			it.line = i + 1
			b.items = append(b.items, it)
		}
	}
	if len(b.items) == 0 && len(b.errs) == 0 {
		return fault.New("read batch", fault.Invalid, "%s has no line that says anything", b.name)
	}
	if b.more > 0 {
		b.errs = append(b.errs, fmt.Errorf("%s: problems in other lines: %d", b.name, b.more))
	}
	b.together()
	return nil
}

// together tells of each request how many there are of its source.
func (b *batch) together() {
	of := map[string]int32{}
	source := func(o *adminpb.SubmitRequest) string { return o.Rule + "\x00" + o.Source }
	for _, it := range b.items {
		of[source(it.order)]++
	}
	for _, it := range b.items {
		if it.kind == "send" {
			it.order.Together = of[source(it.order)]
		}
	}
}

// line is the requests of a line.
func (b *batch) line(ctx context.Context, text string) ([]batchItem, error) {
	if strings.HasPrefix(strings.TrimSpace(text), "{") {
		return b.jsonLine(text)
	}
	if rest, ok := strings.CutPrefix(text, jsonBefore); ok && strings.HasSuffix(rest, jsonAfter) { // as --dry-run prints it
		words, err := wordsOf(strings.TrimSuffix(rest, jsonAfter))
		if err != nil || len(words) != 1 || !strings.HasPrefix(words[0].text, "{") {
			return nil, batchError{1 + len(jsonBefore), fault.New("read line", fault.Invalid, "between printf '%%s' and the | is one request as JSON, in '")}
		}
		return b.jsonLine(words[0].text)
	}
	words, err := wordsOf(text)
	if err != nil || len(words) == 0 {
		return nil, err
	}
	if words[0].text == "pannier" && len(words) > 1 {
		words = words[1:]
	}
	var cmd *cobra.Command
	var f *orderFlags
	var orders orderer
	kind := words[0].text
	switch kind {
	case "send":
		cmd, f, orders = b.c.sendOrder()
	case "get":
		cmd, f, orders = b.c.getOrder()
	case "copy":
		cmd, f, orders = b.c.copyOrder()
	default:
		return nil, batchError{words[0].column, fault.New("read line", fault.Invalid, "a line begins with send, get or copy, not with %.40q", kind)}
	}
	args := make([]string, len(words)-1)
	for i, w := range words[1:] {
		args[i] = w.text
	}
	err = cmd.ParseFlags(args)
	if err == nil {
		args = cmd.Flags().Args()
		err = cmd.ValidateArgs(args)
	}
	for _, name := range []string{"wait", "json", "dry-run"} {
		if flag := cmd.Flags().Lookup(name); err == nil && flag.Changed {
			err = fault.New("read line", fault.Invalid, "--%s is for the whole batch: give it to run", name)
		}
	}
	var all []*adminpb.SubmitRequest
	if err == nil {
		all, err = orders(ctx, b.client, args)
	}
	if err != nil {
		return nil, batchError{guilty(words, err), err}
	}
	said := make([]string, len(words))
	for i, w := range words {
		said[i] = w.text
	}
	parts := append(said, strconv.Itoa(b.again(said)))
	items := make([]batchItem, len(all))
	for i, o := range all {
		items[i] = batchItem{kind: kind, order: o, made: f.key == ""}
		if f.key == "" {
			o.Id = keyID(b.key, append(parts, o.Partner, o.CopyFrom, o.Source)...)
		}
	}
	return items, nil
}

// again is how often these words were a line before.
func (b *batch) again(words []string) int {
	line := shellword.Line(words...)
	b.seen[line]++
	return b.seen[line] - 1
}

// guilty is the column of the word that an error is about, as far as it says.
func guilty(words []batchWord, err error) int {
	text := err.Error()
	for _, w := range words[1:] {
		if flag, _, _ := strings.Cut(w.text, "="); len(w.text) > 1 && (strings.Contains(text, strconv.Quote(w.text)) || strings.HasPrefix(flag, "-") && strings.Contains(text, flag)) {
			return w.column
		}
	}
	for _, w := range words[1:] {
		if name, _, _ := strings.Cut(w.text, ":"); len(name) > 1 && strings.Contains(text, strconv.Quote(name)) {
			return w.column
		}
	}
	return words[0].column
}

// jsonLine is a request as the API takes it.
func (b *batch) jsonLine(text string) ([]batchItem, error) {
	o := new(adminpb.SubmitRequest)
	if err := protojson.Unmarshal([]byte(text), o); err != nil {
		column := 1
		words := err.Error()
		if i := strings.Index(words, "(line "); i >= 0 { // the only place that says where
			var line int
			_, _ = fmt.Sscanf(words[i:], "(line %d:%d)", &line, &column)
			if _, rest, ok := strings.Cut(words[i:], "): "); ok {
				words = rest
			}
		}
		return nil, batchError{column, fault.New("read line", fault.Invalid, "%s", words)}
	}
	if (o.Partner == "" || o.Rule == "") && o.CopyFrom == "" || o.Source == "" {
		return nil, batchError{1 + utf8.RuneCountInString(text) - utf8.RuneCountInString(strings.TrimLeft(text, " \t")), fault.New("read line", fault.Invalid, "partner, rule and source have to be said")}
	}
	it := batchItem{order: o, made: o.Id == ""}
	if it.made {
		o.Id = keyID(b.key, text, strconv.Itoa(b.again([]string{text})))
	}
	return []batchItem{it}, nil
}

// worst is all errors as one, with the exit code that is the highest of theirs.
func (b *batch) worst(ctx context.Context) error {
	code := b.code
	for _, err := range b.errs {
		code = max(code, command.Code(ctx, err))
	}
	return command.WithCode(code, errors.Join(b.errs...))
}

// submit registers the requests that are not there, and sees them through with --wait.
func (b *batch) submit(ctx context.Context) error {
	results := b.registerAll(ctx)
	var all []*adminpb.Request
	before, left, lost := 0, 0, false
	for i, it := range b.items {
		switch r := results[i]; {
		case r.err == nil && r.request == nil:
			left++
		case r.err != nil && ctx.Err() != nil:
		case r.err != nil && fault.KindOf(r.err) == fault.Lost && lost:
			left++ // the first says it
		case r.err != nil:
			lost = lost || fault.KindOf(r.err) == fault.Lost
			b.errs = append(b.errs, fmt.Errorf("%s:%d: %w", b.name, it.line, r.err))
		default:
			if !r.made {
				before++
			}
			all = append(all, r.request)
		}
	}
	if ctx.Err() != nil {
		return command.Suggest(fault.Wrap("run batch", b.name, context.Cause(ctx)), "%d of %d requests are registered, and go on. Run the batch again: those are not made twice.", len(all), len(b.items))
	}
	if left > 0 {
		b.errs = append(b.errs, fmt.Errorf("%d of %d lines were not looked at", left, len(b.items)))
	}
	if before > 0 {
		fmt.Fprintf(b.cmd.ErrOrStderr(), "%d of %d requests were there before: they are the same. For new ones, give the batch another --id\n", before, len(b.items))
	}
	if b.f.wait && len(all) > 0 {
		if err := b.follow(ctx, all); err != nil {
			return err
		}
	}
	if err := b.c.printRequests(b.cmd, b.f.asJSON, all); err != nil {
		return err
	}
	return b.worst(ctx)
}

// follow waits until all are over, and has their verdicts. An error says that only the
// following has ended.
func (b *batch) follow(ctx context.Context, all []*adminpb.Request) error {
	followed := b.c.follow(ctx, b.cmd, b.client, all, true, false)
	if ctx.Err() != nil || len(open(all)) > 0 {
		return followed
	}
	for _, r := range all {
		if err := failureOf(r); err != nil {
			b.errs = append(b.errs, err)
		}
	}
	return nil
}

// final reports whether nothing is left to do for a request.
func final(r *adminpb.Request) bool {
	return r.GetState() == adminpb.Request_DONE || r.GetState() == adminpb.Request_INERROR
}

// registered is what became of an item; the zero value: it was not come to.
type registered struct {
	request *adminpb.Request
	made    bool
	err     error
}

// registerAll registers the items, atOnce of them at a time: the node commits together what comes
// together. Those of one partner and rule, and those of one id, come one after another, in their
// order. Once the daemon is lost, or ctx ends, no other is begun.
func (b *batch) registerAll(ctx context.Context) []registered {
	results := make([]registered, len(b.items))
	shown := newTally(b.cmd.ErrOrStderr(), "registered", len(b.items))
	defer shown.clear()
	var lost atomic.Bool
	var all sync.WaitGroup
	places := make(chan struct{}, atOnce)
	over := make([]chan struct{}, len(b.items))
	for i := range over {
		over[i] = make(chan struct{})
	}
	rows, earlier := rowsOf(b.items)
	for _, row := range rows {
		all.Go(func() {
			for _, i := range row {
				if e := earlier[i]; e >= 0 {
					<-over[e] // it is of an earlier line, so they do not wait for each other
				}
				places <- struct{}{}
				if r := &results[i]; ctx.Err() == nil && !lost.Load() {
					r.request, r.made, r.err = b.register(ctx, b.items[i])
					if fault.KindOf(r.err) == fault.Lost {
						lost.Store(true)
					}
					shown.add()
				}
				<-places
				close(over[i])
			}
		})
	}
	all.Wait()
	return results
}

// rowsOf are the items of each partner and rule, in their order, and for each item the one before it
// that has its id; -1: none has.
func rowsOf(items []batchItem) (rows [][]int, earlier []int) {
	rowOf, idOf := map[[2]string]int{}, map[string]int{}
	earlier = make([]int, len(items))
	for i, it := range items {
		key := [2]string{it.order.Partner, it.order.Rule}
		if _, ok := rowOf[key]; !ok {
			rowOf[key] = len(rows)
			rows = append(rows, nil)
		}
		rows[rowOf[key]] = append(rows[rowOf[key]], i)
		earlier[i] = -1
		if e, ok := idOf[it.order.Id]; ok {
			earlier[i] = e
		}
		idOf[it.order.Id] = i
	}
	return rows, earlier
}

// register makes a request, or finds it.
func (b *batch) register(ctx context.Context, it batchItem) (r *adminpb.Request, made bool, err error) {
	if it.made { // its time may have been said from now on: it is not compared
		r, err := b.client.Get(ctx, &adminpb.Ref{Id: it.order.Id, Role: adminpb.Request_REQUESTER})
		if fault.KindOf(err) != fault.NotFound || err == nil {
			return r, false, err
		}
	}
	reply, err := b.client.Submit(ctx, it.order)
	return reply.GetRequest(), reply.GetMade(), err
}

// Around the JSON of a request in a line that a shell can run: run reads it back, too.
const (
	jsonBefore = "printf '%s' "
	jsonAfter  = " | pannier run -"
)

// dryRun says what would be, in lines that a shell and run can run; with asJSON, in requests as run
// takes them.
func (c *console) dryRun(ctx context.Context, out io.Writer, client *admin.Client, items []batchItem, asJSON bool) error {
	rules, err := client.ListRules(ctx, &adminpb.ListRulesRequest{})
	if err != nil {
		return err
	}
	roots := map[string]string{}
	for _, r := range rules.GetRules() {
		roots[r.GetName()] = r.GetRoot()
	}
	for _, it := range items {
		line := ""
		if it.kind != "" {
			line = shellword.Line(runnable(it, roots)...)
		}
		if line == "" || asJSON || strings.ContainsFunc(line, unicode.IsControl) { // what a terminal takes for orders, and lines that are two
			text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(it.order)
			if err != nil {
				return fault.Wrap("write result", "", err)
			}
			if line = escaped(string(text)); !asJSON {
				line = jsonBefore + shellword.Quote(line) + jsonAfter
			}
		}
		if _, err := fmt.Fprintln(out, line); err != nil {
			return fault.Wrap("write result", "", err)
		}
	}
	return nil
}

// escaped is JSON without the control characters that JSON allows.
func escaped(text string) string {
	var b strings.Builder
	for _, r := range text {
		if unicode.IsControl(r) {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// runnable is the words of a command line for a request.
func runnable(it batchItem, roots map[string]string) []string {
	o := it.order
	words, names := []string{"pannier", it.kind}, []string(nil)
	switch it.kind {
	case "send":
		names = append(names, filepath.Join(roots[o.Rule], o.Source), o.Partner+":"+o.Rule)
		if o.Target != "" && o.Target != o.Source {
			words = append(words, "--as="+o.Target)
		}
	case "get":
		names = append(names, o.Partner+":"+o.Source, o.Target)
		words = append(words, "--rule="+o.Rule)
	case "copy":
		from, rule := o.CopyFrom, o.Rule
		if from == "" {
			from, rule = strings.TrimPrefix(o.Rule, engine.CopyRule("")), ""
		}
		names = append(names, from+":/"+o.Source, o.Partner+":/"+o.Target)
		if rule != "" {
			words = append(words, "--rule="+rule)
		}
		if o.CopyBy != "" {
			words = append(words, "--by="+o.CopyBy)
		}
	}
	if o.Priority != 0 {
		words = append(words, "--priority="+strconv.Itoa(int(o.Priority)))
	}
	if o.Bandwidth != 0 {
		words = append(words, "--bandwidth="+quantity.Rate.Format(o.Bandwidth))
	}
	if o.NotBefore != nil {
		words = append(words, "--at", o.NotBefore.AsTime().Format(time.RFC3339))
	}
	if o.Info != "" {
		words = append(words, "--info="+o.Info)
	}
	if o.Id != "" {
		words = append(words, "--id="+o.Id)
	}
	if slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(name, "-") }) {
		return append(append(words, "--"), names...)
	}
	return slices.Insert(words, 2, names...)
}
