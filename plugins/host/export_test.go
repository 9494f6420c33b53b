package host

// Limited says whether plugins' memory is limited.
const Limited = limited
