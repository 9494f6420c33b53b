// Package plugins is what one writes a bridge with: a driver for another protocol, which a
// node runs as a process of its own. Implement Driver and Session, give the driver
// to Serve, and call the program pannier-plugin-NAME.
//
// spec/plugin.md says what host and plugin say to each other, and what a bridge has
// to keep to; plugintest.Run and `pannier plugin verify` hold one against it.
package plugins
