// Command vulnerable reaches a vulnerability of an old release of golang.org/x/text, for check 42 to find.
package main

import "golang.org/x/text/language"

func main() { _, _, _ = language.ParseAcceptLanguage("en") }
