"""Why a file as a whole could not be read, each with what to do about it."""

from shared.errors import FieldError, Invalid


class UnreadableFile(Invalid):
    """The file as a whole cannot be used; no row of it was taken."""

    code = "FILE_UNREADABLE"
    message = "Dosya okunamadı."

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message)
        self.fields = [FieldError("excelFile", self.message, self.code)]


class FileNotSupported(UnreadableFile):
    """Not an .xlsx, .xlsm or .csv file, by its content."""

    code = "FILE_NOT_SUPPORTED"
    message = "Bu dosya türü desteklenmiyor. Lütfen .xlsx veya .csv olarak kaydedip yeniden yükleyin."


class FileDamaged(UnreadableFile):
    """The file says it is a spreadsheet but its content is broken."""

    code = "FILE_DAMAGED"
    message = "Dosya bozuk. Lütfen Excel'de açıp .xlsx olarak yeniden kaydedin."


class FileRefused(UnreadableFile):
    """The file goes beyond a limit that no honest file reaches."""

    code = "FILE_REFUSED"
    message = (
        "Dosya güvenlik sınırlarını aşıyor. Lütfen yalnızca davet listesini içeren yeni bir .xlsx dosyası yükleyin."
    )


class FileEmpty(UnreadableFile):
    """There is no row to invite."""

    code = "FILE_EMPTY"
    message = "Dosyada davet edilecek satır yok."


class HeaderMissing(UnreadableFile):
    """No row names a phone column."""

    code = "FILE_HEADER_MISSING"
    message = "Başlık satırında telefon sütunu bulunamadı. Bir sütunun başlığı «Phone» veya «Telefon» olmalıdır."


class HeaderAmbiguous(UnreadableFile):
    """Two columns claim the same field."""

    code = "FILE_HEADER_AMBIGUOUS"
    message = "İki sütun aynı alanı gösteriyor. Lütfen birini silin."


class TooManyRows(UnreadableFile):
    """More rows than one upload may have."""

    code = "FILE_TOO_MANY_ROWS"
    message = "Dosyada izin verilenden fazla satır var."


BY_CODE: dict[str, type[UnreadableFile]] = {
    kind.code: kind
    for kind in (FileNotSupported, FileDamaged, FileRefused, FileEmpty, HeaderMissing, HeaderAmbiguous, TooManyRows)
}
