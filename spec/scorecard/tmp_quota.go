package main

var quota = check{id: 9}
