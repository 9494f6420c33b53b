package main

import (
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"text/template"

	"github.com/spf13/cobra"

	"github.com/pannier/pannier/cmd/internal/command"
	"github.com/pannier/pannier/spec/fault"
)

// pluginTemplate is the beginning of a plugin; the names of its files end with .tmpl.
//
//go:embed plugintemplate
var pluginTemplate embed.FS

var pluginName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)

func pluginNewCommand() *cobra.Command {
	var source string
	cmd := &cobra.Command{
		Use:   "new NAME",
		Short: "Begin a plugin: a directory with a program that works, and its test",
		Long: `Begin a plugin: a new directory ` + pluginPrefix + `NAME with a Go module, a bridge to a directory
of this host that passes verify, and its test. Put your protocol in place of it.`,
		Args: command.Arguments(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := newPlugin(args[0], source)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: next\n  cd %s && go mod tidy && go build && go test\n  mkdir -p /tmp/empty && pannier plugin verify ./%s --endpoint %s:///tmp/empty\n", dir, dir, dir, args[0])
			return fault.Wrap("write result", "", err)
		},
	}
	cmd.Flags().StringVar(&source, "source", "", "directory with the source of Pannier, instead of its release")
	return cmd
}

// newPlugin writes the files, all or, if the directory is there, none.
func newPlugin(name, source string) (dir string, err error) {
	dir = pluginPrefix + name
	if !pluginName.MatchString(name) {
		return "", command.Suggest(fault.New("begin plugin", fault.Invalid, "%q cannot be a plugin's name", name), "Take 1 to 32 of a-z, 0-9 and -")
	}
	if source == "" && released() == "" {
		return "", command.Suggest(fault.New("begin plugin", fault.Invalid, "this pannier is no release, which a module could name"), "Say where its source is: --source DIRECTORY")
	}
	if source != "" {
		if source, err = filepath.Abs(source); err != nil {
			return "", fault.Wrap("begin plugin", name, err)
		}
	}
	if err := os.Mkdir(dir, 0o777); err != nil {
		return "", fault.Wrap("begin plugin", name, err)
	}
	all, err := template.ParseFS(pluginTemplate, "plugintemplate/*.tmpl")
	if err != nil {
		return "", fault.Wrap("begin plugin", name, err)
	}
	for _, t := range all.Templates() {
		f, err := os.Create(filepath.Join(dir, strings.TrimSuffix(t.Name(), ".tmpl")))
		if err == nil {
			err = t.Execute(f, map[string]string{"Name": name, "Source": source, "Version": released()})
			if closed := f.Close(); err == nil {
				err = closed
			}
		}
		if err != nil {
			return "", fault.Wrap("begin plugin", name, err)
		}
	}
	return dir, nil
}

// released is the version of this program if it is one that can be asked for, and ""
// if it was built from a work tree.
func released() string {
	if v := command.Version(); regexp.MustCompile(`^v\d+\.\d+\.\d+$`).MatchString(v) {
		return v
	}
	return ""
}
